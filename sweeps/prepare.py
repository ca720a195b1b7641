#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokenize the texts of a sweep with the tokenizers of its models.

  prepare.py SPEC [--set key=value ...] [--cache DIR] [--quiet]

For each text under data: (calibration, evaluation, selection) and each model
of the sweep file SPEC, writes to the cache directory

  <T>-<K>.ids.npy   uint32 [n], the token ids of the whole text
  <T>-<K>.ends.npy  uint64 [n], where each token ends, in bytes of the text

where T and K are the XXH3-128 (32 hexadecimal digits) of the bytes of the
text and of the model's tokenizer.json: models that share a tokenizer share
the files, and a changed text is tokenized anew. What is there and sound is
left alone. For the log-likelihood requests of data.requests (what they are:
request_tokens.py), likewise

  <T>-<S>-<O>.ids.npy      uint32 [n], context and choice of every choice
  <T>-<S>-<O>.choices.npy  int64 [choices, 6]: the number of its request, the
                           tokens of context and choice, characters and bytes
                           of the choice, 1 for the right one

where S is the hash of the model's tokenizer.json, tokenizer_config.json and
special_tokens_map.json, and O that of `delimiter`, `bos` and `prefix`. For
the preset lm-eval, <S>.special.npy has the tokens that begin and end a text.

The text is tokenized as one string, with beginning- and
end-of-text tokens only where the tokenizer itself adds them; such a token
ends where the one before it ends.

The cache is --cache, or the environment's PTQSWEEP_TOKENS, or .tokens beside
SPEC. --set overrides a value of the sweep file, as in ptqsweep run.
Needs the packages of requirements.txt. Example:

  prepare.py sweeps/quick.yaml --set data.evaluation.text=other.txt
"""
import argparse
import json
import os
import re
import sys
import tempfile

from sweep_file import PrepareError, Spec, read_bytes

PIECE = 1 << 20  # characters tokenized at a time, where pieces are exact
CUT = re.compile(r"(?<=[!-~])[ \n]")
# What decides over tokens beside tokenizer.json.
SETTINGS = ("special_tokens_map.json", "tokenizer_config.json")


def read_text(spec, node, path):
    """(XXH3-128, text) of a text file, which must be UTF-8."""
    import xxhash
    raw = read_bytes(spec, node, path, "correct the path in the sweep file, "
                     "or make the text (austen.py makes sweeps/austen)")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        spec.fail(node, f"'{path}': byte {error.start} is not UTF-8; convert "
                  "the text, for example with iconv")
    if not text:
        spec.fail(node, f"'{path}': the text is empty")
    return xxhash.xxh3_128_hexdigest(raw), text


def byte_alphabet():
    """The 256 characters that stand for bytes in byte-level vocabularies."""
    from tokenizers.pre_tokenizers import ByteLevel
    return set(ByteLevel.alphabet())


class TextTokenizer:
    """A tokenizer.json and how many bytes of text each token covers."""

    def __init__(self, spec, node, directory):
        import xxhash
        from tokenizers import Tokenizer
        self.node, self.directory = node, directory
        self.path = os.path.join(directory, "tokenizer.json")
        raw = read_bytes(
            spec, node, self.path, "a model is a Hugging Face directory; make "
            "the file with AutoTokenizer.from_pretrained(DIR)."
            "save_pretrained(DIR) of transformers")
        self.key = xxhash.xxh3_128_hexdigest(raw)
        try:
            self.settings = json.loads(raw.decode("utf-8"))
            self.tokenizer = Tokenizer.from_str(raw.decode("utf-8"))
        except Exception as error:  # the library raises bare Exception
            spec.fail(node, f"'{self.path}': not a tokenizer: {error}; save "
                      "it again with the tokenizers library")
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.widths = self.token_widths()
        self.in_pieces = self.pieces_are_exact()

    def token_widths(self):
        """int64 [tokens]: bytes of text a token covers, -1 where unknown."""
        import numpy as np
        vocab = self.tokenizer.get_vocab(with_added_tokens=True)
        widths = np.full(max(vocab.values(), default=-1) + 1, -1, np.int64)
        if self.is_byte_level():
            alphabet = byte_alphabet()
            for token, i in vocab.items():
                if alphabet.issuperset(token):
                    widths[i] = len(token)
            for added in self.settings.get("added_tokens") or []:
                widths[added["id"]] = len(added["content"].encode("utf-8"))
        return widths

    def is_byte_level(self):
        """True if tokens are spelled in the byte alphabet, text unchanged."""
        pre = self.settings.get("pre_tokenizer") or {}
        parts = pre.get("pretokenizers") or [pre]
        normalizer = self.settings.get("normalizer")
        return (any(p.get("type") == "ByteLevel"
                    and not p.get("add_prefix_space") for p in parts)
                and (normalizer is None or normalizer.get("normalizers") == [])
                and self.settings["model"].get("type") == "BPE")

    def pieces_are_exact(self):
        """True if a text may be cut between a visible character and a blank.

        GPT-2's pattern matches from left to right and no alternative has
        white space behind anything else, so that a match always ends there,
        and BPE never crosses a match. Only added tokens could see across.
        """
        pre = self.settings.get("pre_tokenizer") or {}
        added = self.settings.get("added_tokens") or []
        return (self.is_byte_level() and pre.get("type") == "ByteLevel"
                and pre.get("use_regex", True)
                and not self.settings["model"].get("dropout")
                and not any(a["lstrip"] or a["rstrip"] or a["single_word"]
                            or any(c.isspace() for c in a["content"])
                            for a in added))

    def frame(self):
        """(prefix, suffix): ids that the tokenizer adds around any text."""
        bare = self.tokenizer.encode("a", add_special_tokens=False).ids
        whole = self.tokenizer.encode("a").ids
        for at in range(len(whole) - len(bare) + 1):
            if whole[at:at + len(bare)] == bare:
                return whole[:at], whole[at + len(bare):]
        return None

    def encode(self, text):
        """(ids uint32 [n], ends uint64 [n]) of a text; ends in bytes."""
        import numpy as np
        around = self.frame() if self.in_pieces else None
        if around is None:
            encoding = self.tokenizer.encode(text)
            ids = np.array(encoding.ids, dtype=np.uint32)
            return ids, self.ends(text, encoding, ids, True)
        prefix, suffix = (np.array(part, dtype=np.uint32) for part in around)
        ids = [prefix]
        ends = [np.zeros(len(prefix), np.uint64)]
        at = 0
        for piece in pieces_of(text):
            encoding = self.tokenizer.encode(piece, add_special_tokens=False)
            ids.append(np.array(encoding.ids, dtype=np.uint32))
            ends.append(self.ends(piece, encoding, ids[-1], False)
                        + np.uint64(at))
            at += len(piece.encode("utf-8"))
        ids.append(suffix)
        ends.append(np.full(len(suffix), at, np.uint64))
        return np.concatenate(ids), np.concatenate(ends)

    def ends(self, text, encoding, ids, framed):
        """uint64 [n]: the byte of `text` behind each token.

        From the tokens' own spelling where that accounts for every byte: the
        library's offsets count characters, and the tokens that share one
        character would all end behind it. Else from the offsets.
        """
        import numpy as np
        size = len(text.encode("utf-8"))
        widths = self.widths[ids]
        if framed:  # added around the text, not found in it
            special = np.array(encoding.special_tokens_mask, dtype=bool)
            widths = np.where(special, 0, widths)
        if (widths >= 0).all() and widths.sum() == size:
            return np.cumsum(widths).astype(np.uint64)
        stops = np.array([end for _, end in encoding.offsets], dtype=np.int64)
        if size != len(text):
            lead = np.frombuffer(text.encode("utf-8"), np.uint8) & 0xc0
            starts = np.append(np.flatnonzero(lead != 0x80), size)
            stops = starts[stops]
        return np.maximum.accumulate(stops).astype(np.uint64)


def pieces_of(text):
    """Yield the text in pieces of about PIECE characters.

    A piece ends behind a visible ASCII character that a space or line feed
    follows.
    """
    start = 0
    while start < len(text):
        cut = CUT.search(text, start + PIECE)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def sound(path, dtype, length=None, columns=None):
    """Length of the cached array at `path`; None if absent or damaged."""
    import numpy as np
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    shape = array.shape[1:] == (() if columns is None else (columns,))
    if array.dtype != dtype or not shape or len(array) == 0:
        return None
    return len(array) if length in (None, len(array)) else None


def cached(stem):
    """Number of tokens in the cache under `stem`; None if not sound."""
    n = sound(stem + ".ids.npy", "<u4")
    return n if n and sound(stem + ".ends.npy", "<u8", n) else None


def write(path, array):
    """Write an .npy file at once: a killed run leaves no half file."""
    import numpy as np
    folder, name = os.path.split(path)
    handle, part = tempfile.mkstemp(prefix="." + name, dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def write_all(stem, arrays):
    """Write {suffix: array} under `stem`, the last one last."""
    try:
        for suffix, array in arrays.items():
            write(f"{stem}.{suffix}.npy", array)
    except OSError as error:
        raise PrepareError(f"'{stem}': {error.strerror}; free space or choose "
                           "another directory with --cache") from error


def prepare_text(spec, node, path, tokenizers, cache, say):
    digest, text = read_text(spec, node, path)
    for one in tokenizers:
        stem = os.path.join(cache, f"{digest}-{one.key}")
        n = cached(stem)
        if n is not None:
            say(f"{path}: {n} tokens of {one.path} are there")
            continue
        ids, ends = one.encode(text)
        if len(ids) == 0:
            spec.fail(node, f"'{path}': '{one.path}' makes no token of it")
        write_all(stem, {"ends": ends.astype("<u8", copy=False),
                         "ids": ids.astype("<u4", copy=False)})
        say(f"{path}: {len(ids)} tokens of {one.path}")


def digest_of(*texts):
    """XXH3-128 of texts, each ended by a NUL."""
    import xxhash
    joined = b"".join(text.encode("utf-8") + b"\0" for text in texts)
    return xxhash.xxh3_128_hexdigest(joined)


def read_settings(spec, one):
    """(digest, {key: value}) of what stands beside a tokenizer.json."""
    import xxhash
    digests, settings = [one.key], {}
    for name in SETTINGS:
        path = os.path.join(one.directory, name)
        if not os.path.exists(path):
            digests.append("")
            continue
        raw = read_bytes(spec, one.node, path, "correct its permissions")
        digests.append(xxhash.xxh3_128_hexdigest(raw))
        try:
            found = json.loads(raw.decode("utf-8"))
        except ValueError as error:
            spec.fail(one.node, f"'{path}': not JSON: {error}")
        if not isinstance(found, dict):
            spec.fail(one.node, f"'{path}': not a JSON object")
        settings.update({k: v for k, v in found.items() if v is not None})
    return digest_of(*digests), settings


def check_bos(spec, one, settings):
    """Refuse a directory whose two files disagree on the first token.

    transformers' classes of these names go by tokenizer_config.json, whatever
    tokenizer.json says; texts are tokenized by the latter.
    """
    says = settings.get("add_bos_token")
    kind = str(settings.get("tokenizer_class", ""))
    if says is None or not kind.startswith(("Llama", "CodeLlama", "Gemma")):
        return
    frame = one.frame()
    if frame is not None and bool(says) != (len(frame[0]) > 0):
        does = "adds one" if frame[0] else "adds none"
        spec.fail(one.node, f"'{one.directory}': tokenizer_config.json says "
                  f"add_bos_token {says}, tokenizer.json {does}; save them "
                  "again with AutoTokenizer.from_pretrained(DIR)."
                  "save_pretrained(DIR), or say data.requests.bos")


def prepare_special(spec, tokenizers, cache, say):
    """<S>.special.npy for each tokenizer: beginning and end of text."""
    import numpy as np
    import request_tokens as rt
    for one in tokenizers:
        digest, settings = read_settings(spec, one)
        stem = os.path.join(cache, digest)
        if sound(stem + ".special.npy", "<i8", 2):
            continue
        ids = [one.tokenizer.token_to_id(text) if text else None
               for text in (rt.special_token(settings, name)
                            for name in ("bos_token", "eos_token"))]
        write_all(stem, {"special": np.array(
            [-1 if i is None else i for i in ids], "<i8")})
        say(f"{one.directory}: begins with token {ids[0]}, ends with {ids[1]}")


def prepare_requests(spec, asked, tokenizers, cache, say):
    import request_tokens as rt
    import xxhash
    node, path = asked["node"], asked["path"]
    raw = read_bytes(spec, node, path, "correct the path in the sweep file")
    options = digest_of(asked["delimiter"], *(
        "" if asked[k] is None else str(int(asked[k]))
        for k in ("bos", "prefix")))
    requests, done = None, set()
    for one in tokenizers:
        settings_digest, settings = read_settings(spec, one)
        stem = os.path.join(cache, f"{xxhash.xxh3_128_hexdigest(raw)}-"
                                   f"{settings_digest}-{options}")
        if stem in done:
            continue
        done.add(stem)
        n = sound(stem + ".choices.npy", "<i8", None, len(rt.COLUMNS))
        if n and sound(stem + ".ids.npy", "<u4"):
            say(f"{path}: {n} choices under {one.path} are there")
            continue
        if asked["bos"] is None:
            check_bos(spec, one, settings)
        try:
            requests = requests or rt.read_requests(path, raw)
            encoder = rt.Encoder(one.tokenizer, settings, asked["bos"],
                                 asked["prefix"])
            ids, choices = rt.tokenize(path, requests, encoder,
                                       asked["delimiter"])
        except rt.RequestError as error:
            raise PrepareError(str(error)) from error
        write_all(stem, {"ids": ids.astype("<u4", copy=False),
                         "choices": choices.astype("<i8", copy=False)})
        say(f"{path}: {len(choices)} choices of {len(requests)} requests, "
            f"{len(ids)} tokens of {one.path}")


def prepare(spec, cache, say):
    """Fill `cache` for the sweep; `say` is called with a line a pair."""
    try:
        os.makedirs(cache, exist_ok=True)
    except OSError as error:
        raise PrepareError(f"'{cache}': {error.strerror}; choose another "
                           "directory with --cache") from error
    every = [TextTokenizer(spec, node, directory)
             for node, directory in spec.models()]
    once = {}
    for one in every:
        once.setdefault(one.key, one)
    for node, path in spec.texts():
        prepare_text(spec, node, path, once.values(), cache, say)
    if spec.has_preset("lm-eval"):
        prepare_special(spec, every, cache, say)
    asked = spec.requests()
    if asked is not None:
        prepare_requests(spec, asked, every, cache, say)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("spec", metavar="SPEC")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append",
                        default=[])
    parser.add_argument("--cache", metavar="DIR")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args(argv)
    cache = (args.cache or os.environ.get("PTQSWEEP_TOKENS")
             or os.path.join(os.path.dirname(args.spec), ".tokens"))

    def say(line):
        if not args.quiet:
            print(line, flush=True)

    try:
        prepare(Spec(args.spec, args.set), cache, say)
    except ImportError as error:
        here = os.path.dirname(os.path.abspath(__file__))
        print(f"prepare.py: {error}; install what it needs with "
              f"'{sys.executable} -m pip install -r "
              f"{os.path.join(here, 'requirements.txt')}'", file=sys.stderr)
        return 1
    except PrepareError as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
