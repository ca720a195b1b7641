#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that modules include only what src/layers.txt allows.

usage: check_layers.py ROOT

Looks at every .c and .h of src/<module>, analysis and include/ptq/<module>,
and at the tests' sources, and prints one line a violation:

* a ptq/ header of a module that src/layers.txt does not list for this one;
* a foreign header it does not list, or one that is neither C11 nor POSIX;
* a quoted header that is neither in the module's own folder nor under
  include/;
* a file without an SPDX line among its first two, a header without a guard
  that is its own, two source files of one name.

First it checks itself on small trees that break one rule each. Exit status:
0 no violations, 1 violations, 2 the table cannot be read.
"""

import fnmatch
import pathlib
import re
import sys
import tempfile

SPDX = "SPDX-License-Identifier: GPL-3.0-or-later"

C11 = """assert complex ctype errno fenv float inttypes iso646 limits locale
math setjmp signal stdalign stdarg stdatomic stdbool stddef stdint stdio
stdlib stdnoreturn string tgmath threads time uchar wchar wctype""".split()

POSIX = """arpa/inet cpio dirent dlfcn fcntl fmtmsg fnmatch ftw glob grp iconv
langinfo libgen monetary mqueue ndbm net/if netdb netinet/in netinet/tcp
nl_types poll pthread pwd regex sched search semaphore spawn strings stropts
sys/ipc sys/mman sys/msg sys/resource sys/select sys/sem sys/shm sys/socket
sys/stat sys/statvfs sys/time sys/times sys/types sys/uio sys/un sys/utsname
sys/wait syslog tar termios trace ulimit unistd utime utmpx wordexp""".split()

STANDARD = {f"{name}.h" for name in C11 + POSIX}

# Tests see what their module sees, and these.
TEST_HEADERS = {"cmocka.h"}

INCLUDE = re.compile(r'^\s*#\s*include\s*(<([^>]+)>|"([^"]+)")', re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def read_table(path):
    """{module: (ptq modules, foreign patterns)} of src/layers.txt."""
    table = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        parts = [part.split() for part in line.split(":")]
        if len(parts) != 3 or len(parts[0]) != 1:
            raise ValueError(f"{path}:{number}: expected 'module : modules : "
                             "headers'")
        module = parts[0][0]
        if module in table:
            raise ValueError(f"{path}:{number}: '{module}' appears twice")
        for other in parts[1]:
            if other not in table:
                raise ValueError(
                    f"{path}:{number}: '{module}' may include '{other}', which "
                    "is not listed above it: modules come before their users, "
                    "so that there are no cycles")
        table[module] = (set(parts[1]), parts[2])
    return table


def module_of(path):
    """(module, is a test) of a path relative to the root; None: not ours."""
    parts = path.parts
    if parts[0] == "src" and len(parts) > 2:
        return parts[1], False
    if parts[0] == "analysis" and len(parts) > 1:
        return "analysis", False
    if parts[:2] == ("include", "ptq") and len(parts) > 3:
        return parts[2], False
    if parts[:2] == ("tests", "unit") and len(parts) > 3:
        return parts[2], True
    return None, False


def line_of(text, match):
    return text.count("\n", 0, match.start()) + 1


class Checker:
    """Violations of one tree."""

    def __init__(self, root):
        self.root = root
        self.table = read_table(root / "src" / "layers.txt")
        self.violations = []

    def report(self, path, line, message):
        self.violations.append(f"{path}:{line}: {message}")

    def sources(self):
        for folder in ("src", "analysis", "include", "tests"):
            base = self.root / folder
            for path in sorted(base.rglob("*.[ch]")) if base.is_dir() else []:
                yield path.relative_to(self.root)

    def run(self):
        names = {}
        for path in self.sources():
            text = (self.root / path).read_text(encoding="utf-8")
            self.check_header_lines(path, text)
            # Public headers are told apart by their folder: ptq/<module>/.
            if path.parts[0] != "include":
                twin = names.setdefault(path.name, path)
                if twin != path:
                    self.report(path, 1, f"another file has this name: {twin}")
            module, is_test = module_of(path)
            if module is None:
                if path.parts[0] != "tests":
                    self.report(path, 1, "stands in no module's folder")
            elif module not in self.table:
                self.report(path, 1, f"module '{module}' is not in "
                            "src/layers.txt")
            else:
                self.check_includes(path, text, module, is_test)
        return self.violations

    def check_header_lines(self, path, text):
        if not any(SPDX in line for line in text.splitlines()[:2]):
            self.report(path, 1, f"lacks '{SPDX}'")
        if path.suffix != ".h":
            return
        guard = re.search(r"^#ifndef (\w+)\n#define \1$", text, re.MULTILINE)
        stem = re.sub(r"\W", "_", path.name).upper()
        if guard is None or not guard.group(1).endswith(stem):
            self.report(path, 1, f"lacks an include guard that ends in {stem}")

    def check_includes(self, path, text, module, is_test):
        bare = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
        for match in INCLUDE.finditer(bare):
            line = line_of(bare, match)
            if match.group(2):
                self.check_foreign(path, line, match.group(2), module, is_test)
            else:
                self.check_own(path, line, match.group(3), module, is_test)

    def check_foreign(self, path, line, header, module, is_test):
        if header in STANDARD or is_test and header in TEST_HEADERS:
            return
        if header.startswith("ptq/"):
            self.report(path, line, f"<{header}> must be included in quotes")
            return
        patterns = self.table[module][1]
        if not any(fnmatch.fnmatch(header, p) for p in patterns):
            self.report(path, line, f"'{module}' may not include <{header}>; "
                        "src/layers.txt allows "
                        f"{', '.join(patterns) if patterns else 'none'}")

    def check_own(self, path, line, header, module, is_test):
        folder = (self.root / path).parent
        if header.startswith("ptq/"):
            other = header.split("/")[1]
            if not (self.root / "include" / header).is_file():
                self.report(path, line, f'"{header}" does not exist')
            elif other != module and other not in self.table[module][0]:
                self.report(path, line, f"'{module}' may not include "
                            f"\"{header}\": src/layers.txt does not list "
                            f"'{other}' for it")
            return
        # Private headers: of the own folder; a test also sees its module's
        # and what tests share.
        places = [folder]
        if path.parts[0] == "include":
            places = []
        if is_test:
            places += [self.root / "src" / module, self.root / "tests"]
            places += [self.root / "analysis"] if module == "analysis" else []
        if not any((place / header).is_file() for place in places):
            self.report(path, line, f'"{header}" is not in the module\'s '
                        "folder")


def self_test():
    """Each rule, broken once, is reported; nothing else is."""
    good = f"/* {SPDX} */\n"
    tree = {
        "src/layers.txt": "base : : yaml.h\nnum : base : gsl/*\n",
        "src/base/a.c": good + '#include "ptq/base/a.h"\n#include <yaml.h>\n'
                               '/* #include <mpi.h> */\n#include <stdio.h>\n',
        "src/num/b.c": good + '#include "ptq/base/a.h"\n'
                              '#include <gsl/gsl_math.h>\n#include "own.h"\n',
        "src/num/own.h": good + "#ifndef PTQ_NUM_OWN_H\n"
                                "#define PTQ_NUM_OWN_H\n#endif\n",
        "include/ptq/base/a.h": good + "#ifndef PTQ_BASE_A_H\n"
                                       "#define PTQ_BASE_A_H\n#endif\n",
        "include/ptq/num/b.h": good + "#ifndef PTQ_NUM_B_H\n"
                                      "#define PTQ_NUM_B_H\n#endif\n",
        "tests/unit/num/test_b.c": good + '#include <cmocka.h>\n'
                                          '#include "own.h"\n',
    }
    breaks = [
        ("src/base/a.c", good + '#include "ptq/num/b.h"\n',
         "may not include \"ptq/num/b.h\""),
        ("src/base/a.c", good + "#include <mpi.h>\n", "may not include <mpi.h>"),
        ("src/base/a.c", good + "#  include <gsl/x.h>\n", "<gsl/x.h>"),
        ("src/base/a.c", good + '#include "ptq/base/none.h"\n', "not exist"),
        ("src/base/a.c", good + '#include "own.h"\n', "not in the module's"),
        ("src/base/a.c", good + "#include <ptq/base/a.h>\n", "in quotes"),
        ("src/base/a.c", good + "#include <cmocka.h>\n", "<cmocka.h>"),
        ("src/base/a.c", "int a;\n", "lacks 'SPDX"),
        ("src/num/own.h", good, "include guard"),
        ("src/num/a.c", good, "another file has this name: src/base/a.c"),
        ("src/new/c.c", good, "module 'new' is not in"),
        ("src/c.c", good, "stands in no module's folder"),
        ("src/layers.txt", "base : num :\nnum : base : gsl/*\n",
         "not listed above it"),
        ("src/layers.txt", "base : : yaml.h\nbase : :\n", "appears twice"),
        ("src/layers.txt", "base\n", "expected"),
    ]
    for path, text, expected in [(None, "", None)] + breaks:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, content in {**tree, **({path: text} if path else {})
                                  }.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(content)
            try:
                found = Checker(root).run()
            except ValueError as error:
                found = [str(error)]
        if expected is None:
            assert found == [], found
        else:
            assert len(found) == 1 and expected in found[0], (expected, found)


def main(arguments):
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    self_test()
    try:
        violations = Checker(pathlib.Path(arguments[0])).run()
    except (OSError, ValueError) as error:
        print(f"check_layers: {error}", file=sys.stderr)
        return 2
    for violation in violations:
        print(violation)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
