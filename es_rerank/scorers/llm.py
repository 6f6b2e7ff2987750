"""What every LLM that judges by thinking has in common, on whatever engine it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, StrictStr

from es_rerank.scorers.abilities import Abilities
from es_rerank.scorers.template import DEFAULT_TEMPLATE, PromptTemplate
from es_rerank.tables import Seconds, Section

# 1: the eleven answers are read after `</think><answer>`, the answer 10 by its two tokens; of a long document, the best
# piece counts. 2: the answers are read where the model itself writes them, as its worker sees at its start.
METHOD = 2


def read_prompt_file(path: Any) -> PromptTemplate | None:
    """The template in the file at this path; a template that was read before, or None, stays as it is.

    A line end at the end of the file is not a part of the prompt, because editors put one there. Raises ValueError
    where there is no such file, or where it holds no template.
    """
    if path is None or isinstance(path, PromptTemplate):
        return path
    if not isinstance(path, str):
        raise ValueError("the path of a text file is needed")  # noqa: TRY004  pydantic explains ValueErrors alone
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}; a text file that holds a prompt is needed") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text: {error}") from error
    return PromptTemplate(text.removesuffix("\n"))


class LlmSettings(Section):
    """An LLM that thinks about each document and answers with an integer from 0 to 10: ERank or one like it.

    `model` is a name on the model hub or a local folder. `max_think_tokens` is the longest reasoning that any search
    may ask for; ERank was trained on at most 2,048 tokens. `concurrency` is how many queries are served at once.
    `prompt_file` is the path of a prompt in the configuration, and its text from then on: the file is read once.
    """

    model: Annotated[StrictStr, Field(min_length=1)]
    revision: StrictStr = ""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_query_tokens: Annotated[StrictInt, Field(ge=16, le=32_768)] = 2048
    max_document_tokens: Annotated[StrictInt, Field(ge=16, le=32_768)] = 2048
    max_think_tokens: Annotated[StrictInt, Field(ge=1, le=32_768)] = 2048
    long_documents: Literal["cut", "best_chunk"] = "cut"
    max_chunks: Annotated[StrictInt, Field(ge=2, le=64)] = 4
    prompt_file: Annotated[PromptTemplate | None, BeforeValidator(read_prompt_file)] = None
    check_answer: StrictBool = True
    concurrency: Annotated[StrictInt, Field(ge=1, le=256)] = 16
    start_timeout_s: Seconds = 1800.0

    @property
    def abilities(self) -> Abilities:
        """It thinks, and it reads the instruction that says what counts as relevant."""
        return Abilities(max_think_tokens=self.max_think_tokens, reads_instruction=True)

    @property
    def template(self) -> PromptTemplate:
        """The prompt: that of `prompt_file`, or ERank's own."""
        return self.prompt_file or DEFAULT_TEMPLATE

    def _fingerprint_parts(self) -> dict[str, str | float]:
        """What changes a score under any kind of engine."""
        return {
            "model": self.model,
            "revision": self.revision,
            "dtype": self.dtype,
            "prompt": self.template.sha256,
            "max_query_tokens": self.max_query_tokens,
            "max_document_tokens": self.max_document_tokens,
            "chunks": self.max_chunks if self.long_documents == "best_chunk" else 1,
        }
