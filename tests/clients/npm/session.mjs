// One session of an official JavaScript client with one URL, printed as a JSON transcript: a program, run by the test
// beside its folder. Nothing in a transcript changes from one session to the next on the same engine.
// Usage: node session.mjs FOLDER-OF-PACKAGES PACKAGE URL INDEX

import { createRequire } from "node:module";

const [, , folder, name, url, index] = process.argv;
const { Client } = createRequire(`${folder}/`)(name);
const isOpenSearch = name === "opensearch";
// A retry would hide an answer that the engine alone would not give.
const client = new Client({ node: url, maxRetries: 0, requestTimeout: 60000 });
const calls = {};
const orders = {};

// Times, names that the engine makes up, and how long an answer is, which follows the digits of `took`.
const VOLATILE = new Set([
  "took", "_scroll_id", "scroll_id", "pit_id", "creation_time", "uuid", "index_uuid", "content-length", "date",
  "transfer-encoding", "task_resource_usage", "time",
]);

function plain(value) {
  if (typeof value === "string") return value.replace(/\/[\w-]{22}\]/g, "/(id)]").replace(/"took":\d+/g, '"took":0');
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value === undefined ? null : value;
  const entries = Object.entries(value).filter(([key]) => !VOLATILE.has(key));
  return Object.fromEntries(entries.map(([key, item]) => [key, plain(item)]));
}

// The call's result, or null where it raised; both are kept under the call's name.
async function call(label, method, { hide = [] } = {}) {
  hide.forEach((key) => VOLATILE.add(key));
  let result = null;
  try {
    result = await method();
    const { body, statusCode, headers, warnings } = result ?? {};
    calls[label] = statusCode === undefined
      ? { value: plain(result) }
      : { status: statusCode, headers: plain({ ...headers }), warnings: plain(warnings ?? null), value: plain(body) };
  } catch (error) {
    calls[label] = {
      raised: error.name,
      status: error.statusCode ?? null,
      text: plain(String(error.message)),
      body: plain(error.meta?.body ?? null),
    };
  }
  hide.forEach((key) => VOLATILE.delete(key));
  return result;
}

// A call whose hits may change in order and score, but with nothing else changed.
async function reranked(label, method) {
  if ((await call(label, method)) === null) return;
  const value = calls[label].value;
  orders[label] = [];
  for (const answer of value.responses ?? [value]) {
    if (!answer.hits) continue;
    orders[label].push(...answer.hits.hits.map((hit) => hit._id));
    answer.hits.max_score = null;
    answer.hits.hits = answer.hits.hits.map((hit) => ({ ...hit, _score: null })).sort((a, b) => a._id - b._id);
  }
}

// The two clients take the same things in other places.
const META = isOpenSearch ? undefined : { meta: true };
const withBody = (more, body) => [isOpenSearch ? { ...more, body } : { ...more, ...body }, META];

const TEXT = { type: "text", analyzer: "english" };
const INDEX_BODY = {
  settings: { number_of_shards: 1, number_of_replicas: 0, refresh_interval: "-1" },
  mappings: { properties: { title: TEXT, text: TEXT, year: { type: "integer" } } },
};
const TEXTS = [
  "A robot. The robot repairs a robot in a factory of robots.",
  "A machine learns what tenderness is, and marries the woman who built it; a robot in love.",
  "An old sailor returns to his island and finds his house under sand.",
  "Love, love, love: four sisters talk of love for an hour.",
  "A mechanic falls for a robot that falls apart.",
  "Thieves rob a bank in winter and fall out over the loot.",
  "An android who was made to fight falls in love with an enemy.",
  "The robots fall upon the city, and people fall by thousands.",
];
const FILMS = TEXTS.map((text, place) => ({ id: String(place + 1), title: `Film ${place + 1}`, text, year: 1990 + place }));
const QUERY = { match: { text: "a robot who falls in love" } };
const BY_YEAR = { query: QUERY, size: 3, sort: [{ year: "asc" }] };

async function write() {
  await call("info", () => client.info(undefined, META));
  await call("ping", () => client.ping());
  await call("create", () => client.indices.create(...withBody({ index }, INDEX_BODY)));
  await call("create again", () => client.indices.create(...withBody({ index }, INDEX_BODY)));
  await call("exists", () => client.indices.exists({ index }));
  const onDocument = ({ id }) => ({ index: { _index: index, _id: id } });
  await call("bulk helper", () => client.helpers.bulk({ datasource: FILMS, onDocument, flushBytes: 400, concurrency: 1 }));
  const dropped = [];
  await call("bulk helper with an error", () => client.helpers.bulk({
    datasource: [{ id: "9", year: "none" }], onDocument, retries: 0, onDrop: ({ status, error }) => dropped.push({ status, error }),
  }));
  calls["bulk helper with an error"].dropped = plain(dropped);
  await call("refresh", () => client.indices.refresh({ index }, META));
}

async function read() {
  await call("get", () => client.get({ index, id: "1" }, META));
  await call("get a missing id", () => client.get({ index, id: "none" }, META));
  await call("count", () => client.count(...withBody({ index }, { query: QUERY })));
  await call("explain", () => client.explain(...withBody({ index, id: "2" }, { query: QUERY })));
  await call("cat", () => client.cat.indices({ index, format: "json", h: "index,docs.count" }, META));
}

async function search() {
  await reranked("reranked", () => client.search(...withBody({ index }, { query: QUERY })));
  const aggs = { years: { max: { field: "year" } } };
  await reranked("reranked with more", () => client.search(...withBody({ index }, { query: QUERY, aggs, highlight: { fields: { text: {} } } })));
  await reranked("reranked q", () => client.search({ index, q: "text:(robot OR love)" }, META));
  await call("sorted", () => client.search(...withBody({ index }, BY_YEAR)));
  const lines = [{ index }, { query: QUERY }, { index: `${index}-none` }, { query: QUERY }, {}, BY_YEAR];
  const many = isOpenSearch ? { index, body: lines } : { index, searches: lines };
  await reranked("msearch", () => client.msearch(many, META));
  await call("as a stream", async () => {
    const options = { asStream: true, ...(isOpenSearch ? {} : META) };
    const { body, statusCode, headers } = await client.search(withBody({ index }, BY_YEAR)[0], options);
    let text = "";
    for await (const chunk of body) text += chunk;
    return { statusCode, headers, body: text };
  });
}

async function help() {
  const documents = await client.helpers.search(withBody({ index }, { query: QUERY })[0]).catch((error) => ({ raised: error.name }));
  orders["search helper"] = documents.map?.(({ id }) => id) ?? documents;
  await call("scroll helper", async () => {
    const pages = [];
    for await (const page of client.helpers.scrollSearch(withBody({ index }, { query: QUERY, size: 3 })[0])) pages.push(page.documents);
    return pages;
  });
  await call("scroll documents helper", async () => {
    const found = [];
    for await (const document of client.helpers.scrollDocuments(withBody({ index }, { query: QUERY, size: 3 })[0])) found.push(document);
    return found;
  });
  const helper = client.helpers.msearch({ operations: 3 });
  const asked = Array.from({ length: 7 }, (_, place) => helper
    .search({ index: place === 4 ? `${index}-none` : index }, place % 2 ? BY_YEAR : { query: QUERY })
    .then(({ body, status, documents: found }) => ({ status, total: body.hits.total, found: found.map(({ id }) => id) }))
    .catch((error) => ({ raised: error.name, text: plain(error.message) })));
  helper.stop(); // sends what is left; the helper's own timer may lose it
  const answers = await Promise.all(asked);
  orders["msearch helper"] = answers.flatMap((answer, place) => (place % 2 ? [] : answer.found ?? []));
  calls["msearch helper"] = answers.map((answer, place) => (place % 2 ? answer : { ...answer, found: answer.found?.length ?? null }));
}

async function page() {
  const opened = await call(
    "pit",
    () => isOpenSearch ? client.createPit({ index, keep_alive: "1m" }) : client.openPointInTime({ index, keep_alive: "1m" }, META),
    { hide: ["id"] },
  );
  let id = isOpenSearch ? opened?.body.pit_id : opened?.body.id;
  let after;
  for (let number = 1; number <= 3; number += 1) {
    if (!id) break; // the engine refuses this client
    const body = { ...BY_YEAR, pit: { id, keep_alive: "1m" }, ...(after ? { search_after: after } : {}) };
    const answer = await call(`pit page ${number}`, () => client.search(...withBody({}, body)));
    id = answer?.body.pit_id;
    after = answer?.body.hits.hits.at(-1)?.sort ?? after;
  }
  await call("pit end", () => isOpenSearch ? client.deletePit({ body: { pit_id: [id] } }) : client.closePointInTime({ id }, META));
}

async function err() {
  await call("bad query", () => client.search(...withBody({ index }, { query: { match: { text: { quary: "x" } } } })));
  await call("no index", () => client.search(...withBody({ index: `${index}-none` }, { query: QUERY })));
  await call("too deep", () => client.search(...withBody({ index, from: 9990, size: 100 }, { query: QUERY })));
  await call("conflict", () => client.create(isOpenSearch ? { index, id: "1", body: {} } : { index, id: "1", document: {} }, META));
  await call("delete", () => client.delete({ index, id: "1" }, META));
  await call("delete index", () => client.indices.delete({ index }, META));
}

for (const part of [write, read, search, help, page, err]) await part();
await client.close();
process.stdout.write(JSON.stringify({ calls, orders }));
