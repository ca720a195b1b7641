# SPDX-License-Identifier: GPL-3.0-or-later
"""Log-likelihood requests as tokens, as lm-eval's model class for Hugging Face
models (HFLM, lm-evaluation-harness 0.4.13) makes them.

A file of requests is JSON lines, one question a line, blank lines aside:

  {"context": "The sky is", "choices": [" blue", " green"], "answer": 0}

or with `contexts`, one for each choice, instead of `context`; or a line of
lm-eval's own --log_samples, whose `arguments` are the contexts and choices
and whose `target` names the answer. A question with a single choice is
answered rightly where each of its tokens is the most probable one (LAMBADA).

Tokens of a pair: trailing white space of the context goes to the choice;
context and choice are tokenized together, and the context alone, whose tokens
are the context; what the whole has beyond their number is the choice's. The
tokenizer's own beginning-of-text token stands in front unless the text begins
with that already. An empty context is the beginning-of-text token (or, where
there is none, the end-of-text token).
"""
import json

# Columns of the table of choices.
COLUMNS = ("request", "context", "continuation", "characters", "bytes",
           "right")


class RequestError(Exception):
    """What is wrong with a file of requests; the message has its place."""


class Request:
    """A question: [(context, choice)] and which is right."""

    def __init__(self, line, pairs, answer):
        self.line, self.pairs, self.answer = line, pairs, answer


def _is_text(value):
    return isinstance(value, str)


def _plain(data):
    """(pairs, answer) of a line with context and choices."""
    choices = data.get("choices")
    if (not isinstance(choices, list) or not choices
            or not all(map(_is_text, choices))):
        raise RequestError("'choices' must be a list of texts")
    if "contexts" in data:
        contexts = data["contexts"]
        if (not isinstance(contexts, list) or len(contexts) != len(choices)
                or not all(map(_is_text, contexts))):
            raise RequestError("'contexts' must be a list of texts, one for "
                               "each choice")
    elif _is_text(data.get("context")):
        contexts = [data["context"]] * len(choices)
    else:
        raise RequestError("'context' must be a text")
    answer = data.get("answer", 0 if len(choices) == 1 else None)
    if isinstance(answer, bool) or not isinstance(answer, int):
        raise RequestError("'answer' must be the number of the right choice, "
                           "from 0")
    return list(zip(contexts, choices)), answer


def _logged(data):
    """(pairs, answer) of a line of lm-eval's --log_samples."""
    arguments = data["arguments"]
    try:
        keys = sorted(arguments, key=lambda key: int(key.rsplit("_", 1)[1]))
        pairs = [(arguments[k]["arg_0"], arguments[k]["arg_1"]) for k in keys]
    except (TypeError, KeyError, ValueError, IndexError, AttributeError):
        raise RequestError("'arguments' are not those of lm-eval's "
                           "--log_samples") from None
    if not all(_is_text(c) and _is_text(t) for c, t in pairs):
        raise RequestError("'arguments' are not contexts and continuations: "
                           "the task generates text, which is not scored here")
    if "acc_mutual_info" in (data.get("metrics") or []):
        pairs = pairs[:len(pairs) // 2]  # the choices without context follow
    if len(pairs) == 1:
        return pairs, 0
    return pairs, _target(data, pairs)


def _target(data, pairs):
    """The right choice of a logged question."""
    target = str(data.get("target"))
    if target.lstrip("-").isdigit():
        return int(target)
    named = [i for i, (_, choice) in enumerate(pairs)
             if choice.strip() == target.strip()]
    if len(named) == 1:
        return named[0]
    # Contexts differ, not choices (WinoGrande): of two the logged model took
    # the more probable one, and `acc` says whether that was right.
    if len(pairs) == 2 and "acc" in data:
        try:
            first, second = (float(r[0]) for r in data["filtered_resps"])
        except (TypeError, KeyError, ValueError, IndexError):
            pass
        else:
            return int((second > first) == (data["acc"] == 1))
    raise RequestError(f"the target '{target}' is no number of a choice nor "
                       "one of the choices; write the line as context(s), "
                       "choices and answer")


def _read_line(number, text):
    try:
        data = json.loads(text)
    except ValueError as error:
        raise RequestError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise RequestError("not a JSON object")
    pairs, answer = _logged(data) if "arguments" in data else _plain(data)
    if not 0 <= answer < len(pairs):
        raise RequestError(f"answer {answer} is not one of "
                           f"{len(pairs)} choices, which count from 0")
    if not all(choice for _, choice in pairs):
        raise RequestError("a choice is empty: there is nothing to score")
    return Request(number, pairs, answer)


def read_requests(path, raw):
    """The requests of a file's bytes; errors name path and line."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"'{path}': byte {error.start} is not UTF-8; "
                           "convert the file, for example with "
                           "iconv") from None
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip(" \t\r\v\f"):
            continue
        try:
            found.append(_read_line(number, line))
        except RequestError as error:
            raise RequestError(f"{path}:{number}: {error}") from None
    if not found:
        raise RequestError(f"'{path}': no requests")
    return found


def special_token(settings, name):
    """The text of "bos_token" or "eos_token" in tokenizer_config.json."""
    value = settings.get(name)
    return value.get("content") if isinstance(value, dict) else value


class Encoder:
    """Pairs to tokens under one tokenizer.

    `settings` are those of tokenizer_config.json over those of
    special_tokens_map.json; `bos` is lm-eval's add_bos_token (None: as the
    tokenizer does by itself), `prefix` its prefix_token_id.
    """

    def __init__(self, tokenizer, settings, bos=None, prefix=None):
        self.tokenizer, self.bos = tokenizer, bos
        self.prefix = prefix
        for name in ("bos_token", "eos_token"):
            text = special_token(settings, name)
            if self.prefix is None and text is not None:
                self.prefix = tokenizer.token_to_id(text)
        self.begin = None
        if self.prefix is not None:
            self.begin = tokenizer.decode([self.prefix],
                                          skip_special_tokens=False)

    def encode(self, texts, bos=None):
        """[ids] of texts; `bos` overrides whether special tokens are added."""
        found = [None] * len(texts)
        groups = {}
        for i, text in enumerate(texts):
            special = bos
            if special is None:
                special = self.bos is not False
                if self.begin and text.startswith(self.begin):
                    special = False
            groups.setdefault(special, []).append(i)
        for special, members in groups.items():
            encodings = self.tokenizer.encode_batch(
                [texts[i] for i in members], add_special_tokens=special)
            for i, encoding in zip(members, encodings):
                found[i] = encoding.ids
        return found

    def bare(self, choice):
        """(context ids, choice ids) of a choice without context."""
        ids = self.encode([choice], False)[0]
        if self.prefix is None:
            raise RequestError("a context is empty, and the tokenizer has "
                               "neither a beginning- nor an end-of-text "
                               "token (tokenizer_config.json); name one with "
                               "data.requests.prefix, a token's number")
        if ids and ids[0] == self.prefix:
            return ids[:1], ids[1:]
        return [self.prefix], ids

    def pairs(self, pairs):
        """[(context ids, choice ids)] of [(context, choice)]."""
        texts = []
        for context, choice in pairs:
            if context:  # white space behind it goes to the choice
                texts += [context.rstrip(), context + choice]
        ids = iter(self.encode(texts))
        found = []
        for context, choice in pairs:
            if context == "":
                found.append(self.bare(choice))
                continue
            alone, whole = next(ids), next(ids)
            found.append((alone, whole[len(alone):]))
        return found


def tokenize(path, requests, encoder, delimiter):
    """(ids uint32 [n], choices int64 [choices, 6]) of the requests.

    Characters and bytes of a choice, by which lm-eval's acc_norm and
    acc_bytes divide, are those behind `delimiter` where it begins with that.
    """
    import numpy as np
    flat = [pair for request in requests for pair in request.pairs]
    lines = [r.line for r in requests for _ in r.pairs]
    try:
        tokens = encoder.pairs(flat)
    except RequestError as error:
        raise RequestError(f"'{path}': {error}") from None
    for (context, choice), line in zip(tokens, lines):
        if not context or not choice:
            what = "a context" if not context else "a choice"
            raise RequestError(f"{path}:{line}: {what} makes no token of its "
                               "own under this tokenizer, so that lm-eval "
                               "could not score it either")
    rows = []
    places = ((i, k) for i, request in enumerate(requests)
              for k in range(len(request.pairs)))
    for (i, k), (_, choice), (context, own) in zip(places, flat, tokens):
        text = choice
        if delimiter and text.startswith(delimiter) and text != delimiter:
            text = text[len(delimiter):]
        rows.append((i, len(context), len(own), len(text),
                     len(text.encode("utf-8")), k == requests[i].answer))
    ids = [i for context, own in tokens for i in (*context, *own)]
    return (np.array(ids, dtype=np.uint32),
            np.array(rows, dtype=np.int64).reshape(-1, len(COLUMNS)))
