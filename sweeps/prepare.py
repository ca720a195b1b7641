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
left alone. The text is tokenized as one string, with beginning- and
end-of-text tokens only where the tokenizer itself adds them; such a token
ends where the one before it ends.

The cache is --cache, or the environment's PTQSWEEP_TOKENS, or .tokens beside
SPEC. --set overrides a value of the sweep file, as in ptqsweep run.
Needs the packages of requirements.txt. Example:

  prepare.py sweeps/quick.yaml --set data.evaluation.text=other.txt
"""
import argparse
import difflib
import glob
import json
import os
import re
import sys
import tempfile

PIECE = 1 << 20  # characters tokenized at a time, where pieces are exact
CUT = re.compile(r"(?<=[!-~])[ \n]")
SECTIONS = ("calibration", "evaluation", "selection")


class PrepareError(Exception):
    """A failure with a message for the user."""


class Spec:
    """The sweep file as a YAML tree whose nodes know their line."""

    def __init__(self, path, overrides=()):
        import yaml
        self.yaml, self.path = yaml, path
        self.folder = os.path.dirname(os.path.abspath(path))
        try:
            with open(path, encoding="utf-8") as file:
                self.root = yaml.compose(file, Loader=yaml.SafeLoader)
        except OSError as error:
            raise PrepareError(f"'{path}': {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise PrepareError(f"'{path}': byte {error.start} is not "
                               "UTF-8") from error
        except yaml.YAMLError as error:
            raise PrepareError(self.parse_failure(error)) from error
        if not isinstance(self.root, yaml.MappingNode):
            raise PrepareError(f"{path}:1: not a sweep file: expected keys "
                               "such as models: and data:")
        for override in overrides:
            self.override(override)

    def parse_failure(self, error):
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or str(error)
        return f"{self.path}:{line}: not YAML: {problem}"

    def fail(self, node, message):
        """Raise with the place of `node` in front."""
        if node.start_mark.name == "--set":
            place = f"{self.path} (--set)"
        else:
            place = f"{self.path}:{node.start_mark.line + 1}"
        raise PrepareError(f"{place}: {message}")

    def override(self, text):
        """Replace or add the value at the dotted key of 'key=value'."""
        key, equals, value = text.partition("=")
        if not equals or not all(key.split(".")):
            raise PrepareError(f"--set '{text}': expected key=value, as in "
                               "data.evaluation.text=other.txt")
        loader = self.yaml.SafeLoader(value)
        loader.name = "--set"
        try:
            new = loader.get_single_node()
        except self.yaml.YAMLError as error:
            raise PrepareError(f"--set '{text}': value is not "
                               f"YAML: {error}") from error
        finally:
            loader.dispose()
        if new is None:
            raise PrepareError(f"--set '{text}': no value")
        node, steps = self.root, key.split(".")
        for step in steps[:-1]:
            inner = self.get(node, step)
            if inner is None:
                inner = self.yaml.MappingNode(
                    "tag:yaml.org,2002:map", [], new.start_mark, new.end_mark)
                self.put(node, step, inner)
            if not isinstance(inner, self.yaml.MappingNode):
                raise PrepareError(f"--set '{text}': '{step}' holds no keys "
                                   f"in {self.path}; set it as a whole")
            node = inner
        self.put(node, steps[-1], new)

    def put(self, node, key, value):
        name = self.yaml.ScalarNode("tag:yaml.org,2002:str", key,
                                    value.start_mark, value.end_mark)
        node.value = [pair for pair in node.value if pair[0].value != key]
        node.value.append((name, value))

    def get(self, node, key):
        """Member `key` of a mapping node, or None."""
        for name, value in node.value:
            if name.value == key:
                return value
        return None

    def entries(self, node):
        """The elements of a list; a node that is no list is its own."""
        if isinstance(node, self.yaml.SequenceNode):
            return node.value
        return [node]

    def path_of(self, node, what):
        """A scalar's text as a path relative to the sweep file."""
        if not isinstance(node, self.yaml.ScalarNode) or not node.value:
            self.fail(node, f"{what} must be a path")
        return os.path.join(self.folder, node.value)

    def member(self, node, key, what):
        """The member `key` that mapping `node` must have."""
        if not isinstance(node, self.yaml.MappingNode):
            self.fail(node, f"{what} must have the form {{{key}: ...}}")
        value = self.get(node, key)
        if value is None:
            self.fail(node, f"{what} has no '{key}:'")
        return value

    def texts(self):
        """[(node, path)] of the texts, each path once."""
        data = self.member(self.root, "data", "a sweep file")
        if not isinstance(data, self.yaml.MappingNode):
            self.fail(data, "data: must hold calibration: and evaluation:")
        found = {}
        for name, value in data.value:
            if name.value not in SECTIONS:
                near = difflib.get_close_matches(name.value, SECTIONS, 1)
                hint = (f"did you mean '{near[0]}'?" if near
                        else f"known are {', '.join(SECTIONS)}")
                self.fail(name, f"unknown key 'data.{name.value}'; {hint}")
            what = f"data.{name.value}"
            for entry in self.entries(value):
                node = self.member(entry, "text", what)
                path = self.path_of(node, what + ".text")
                found.setdefault(os.path.realpath(path), (node, path))
        if not found:
            self.fail(data, "data: names no text")
        return list(found.values())

    def models(self):
        """[(node, directory)] of the models, globs expanded."""
        listed = self.member(self.root, "models", "a sweep file")
        found = []
        for entry in self.entries(listed):
            node = entry
            if isinstance(entry, self.yaml.MappingNode):
                node = self.member(entry, "path", "a model")
            pattern = self.path_of(node, "a model")
            if not glob.has_magic(node.value):
                found.append((node, pattern))
                continue
            matches = [p for p in sorted(glob.glob(pattern))
                       if os.path.isdir(p)]
            if not matches:
                self.fail(node, f"no directory matches '{node.value}'")
            found += [(node, path) for path in matches]
        if not found:
            self.fail(listed, "models: names no model")
        return found


def read_bytes(spec, node, path, remedy):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        return spec.fail(node, f"'{path}': {error.strerror}; {remedy}")


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


def sound(path, dtype, length=None):
    """Length of the cached vector at `path`; None if absent or damaged."""
    import numpy as np
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if array.dtype != dtype or array.ndim != 1 or len(array) == 0:
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


def prepare(spec, cache, say):
    """Fill `cache` for the sweep; `say` is called with a line a pair."""
    try:
        os.makedirs(cache, exist_ok=True)
    except OSError as error:
        raise PrepareError(f"'{cache}': {error.strerror}; choose another "
                           "directory with --cache") from error
    tokenizers = {}
    for node, directory in spec.models():
        one = TextTokenizer(spec, node, directory)
        tokenizers.setdefault(one.key, one)
    for node, path in spec.texts():
        digest, text = read_text(spec, node, path)
        for one in tokenizers.values():
            stem = os.path.join(cache, f"{digest}-{one.key}")
            n = cached(stem)
            if n is not None:
                say(f"{path}: {n} tokens of {one.path} are there")
                continue
            ids, ends = one.encode(text)
            if len(ids) == 0:
                spec.fail(node, f"'{path}': '{one.path}' makes no token of "
                          "it")
            try:
                write(stem + ".ends.npy", ends.astype("<u8", copy=False))
                write(stem + ".ids.npy", ids.astype("<u4", copy=False))
            except OSError as error:
                raise PrepareError(
                    f"'{stem}': {error.strerror}; free space or choose "
                    "another directory with --cache") from error
            say(f"{path}: {len(ids)} tokens of {one.path}")


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
