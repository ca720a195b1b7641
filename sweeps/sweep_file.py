# SPDX-License-Identifier: GPL-3.0-or-later
"""What sweeps/prepare.py needs of a sweep file: texts, requests, models."""
import difflib
import glob
import os

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
            if name.value == "requests":
                continue
            if name.value not in SECTIONS:
                known = (*SECTIONS, "requests")
                near = difflib.get_close_matches(name.value, known, 1)
                hint = (f"did you mean '{near[0]}'?" if near
                        else f"known are {', '.join(known)}")
                self.fail(name, f"unknown key 'data.{name.value}'; {hint}")
            what = f"data.{name.value}"
            for entry in self.entries(value):
                node = self.member(entry, "text", what)
                path = self.path_of(node, what + ".text")
                found.setdefault(os.path.realpath(path), (node, path))
        if not found:
            self.fail(data, "data: names no text")
        return list(found.values())

    def has_preset(self, name):
        """Does an evaluation text have this preset?"""
        value = self.get(self.get(self.root, "data"), "evaluation")
        entries = [] if value is None else self.entries(value)
        presets = [self.get(entry, "preset") for entry in entries]
        return any(p is not None and p.value == name for p in presets)

    def requests(self):
        """{file, node, delimiter, bos, prefix} of data.requests, or None."""
        data = self.member(self.root, "data", "a sweep file")
        section = self.get(data, "requests")
        if section is None:
            return None
        node = self.member(section, "file", "data.requests")
        found = {"node": node, "delimiter": " ", "bos": None, "prefix": None,
                 "path": self.path_of(node, "data.requests.file")}
        for key, kind, what in (("delimiter", str, "a text"),
                                ("bos", bool, "true or false"),
                                ("prefix", int, "a token's number")):
            value = self.get(section, key)
            if value is None:
                continue
            found[key] = self.scalar(value)
            if type(found[key]) is not kind:
                self.fail(value, f"data.requests.{key} must be {what}")
        return found

    def scalar(self, node):
        """The value of a scalar as YAML reads it."""
        if not isinstance(node, self.yaml.ScalarNode):
            self.fail(node, "must be a single value")
        loader = self.yaml.SafeLoader("")
        try:
            return loader.construct_object(node)
        except (ValueError, self.yaml.YAMLError) as error:
            return self.fail(node, f"not a value: {error}")
        finally:
            loader.dispose()

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
