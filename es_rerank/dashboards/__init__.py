"""Dashboards for Kibana and OpenSearch Dashboards: built from code, shipped as one file, installed by one request."""
