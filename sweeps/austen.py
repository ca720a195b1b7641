#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the three texts of the demonstration sweeps from Jane Austen's novels.

  austen.py [-o DIR] [--deb FILE | --texts DIR] [--unverified] [--quiet]

The novels (public domain) are taken from Debian's package
r-cran-janeaustenr, without R: apt-get fetches the package into a temporary
directory, dpkg-deb unpacks it, and the lines are read out of R's lazy-load
database. Where apt is absent, give the package itself (--deb) or a directory
of plain UTF-8 texts (--texts) named sensesensibility.txt,
prideprejudice.txt, mansfieldpark.txt, emma.txt, northangerabbey.txt and
persuasion.txt.

Written are, in DIR (default: austen/ beside this script),

  train.txt   Sense and Sensibility, Pride and Prejudice, Mansfield Park, Emma
  select.txt  Northanger Abbey
  test.txt    Persuasion

one line of the source a line, LF line ends, UTF-8. The same input gives the
same bytes. Texts from the package must have the known SHA-256; other texts
are taken from --texts with a warning. Needs only Python's own library.
"""
import argparse
import hashlib
import os
import struct
import subprocess
import sys
import tempfile
import zlib

PACKAGE = "r-cran-janeaustenr"
RDB = "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"

# First line of the novel in the package (upper case) -> plain text's name.
NOVELS = {
    "SENSE AND SENSIBILITY": "sensesensibility",
    "PRIDE AND PREJUDICE": "prideprejudice",
    "MANSFIELD PARK": "mansfieldpark",
    "EMMA": "emma",
    "NORTHANGER ABBEY": "northangerabbey",
    "PERSUASION": "persuasion",
}

# Output -> novels in order, SHA-256 of the output made from the package.
OUTPUTS = {
    "train.txt": (
        ["sensesensibility", "prideprejudice", "mansfieldpark", "emma"],
        "a66a8f8c9d28a0909a6f78ca8774a1a093ed74286084fb8940c82b453c53b912"),
    "select.txt": (
        ["northangerabbey"],
        "51f91bbe0517db8e65cff009b097ce0a1836124c4e0532ac19e6c0cad982abed"),
    "test.txt": (
        ["persuasion"],
        "8061549557aebd2fd6e353d18d9197cb707029112bd52d4d8b174583a925848a"),
}


class AustenError(Exception):
    """A failure with a message for the user."""


def records(data, path):
    """Yield the unpacked records of an R lazy-load database.

    A record is a 4-byte big-endian length of the UNCOMPRESSED data and a zlib
    stream; the compressed length is stored nowhere, so the next record starts
    where zlib ends.
    """
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise AustenError(f"'{path}': truncated at byte {at}")
        (size,) = struct.unpack_from(">I", data, at)
        stream = zlib.decompressobj()
        try:
            out = stream.decompress(data[at + 4:])
        except zlib.error as error:
            raise AustenError(
                f"'{path}': record at byte {at}: {error}") from error
        if not stream.eof or len(out) != size:
            raise AustenError(
                f"'{path}': record at byte {at}: {len(out)} of {size} bytes")
        yield out
        at = len(data) - len(stream.unused_data)


class Xdr:
    """Reader of big-endian 32-bit integers and bytes with bounds checks."""

    def __init__(self, data, where):
        self.data, self.at, self.where = data, 0, where

    def take(self, n):
        if n < 0 or self.at + n > len(self.data):
            raise AustenError(f"{self.where}: truncated at byte {self.at}")
        self.at += n
        return self.data[self.at - n:self.at]

    def int32(self):
        return struct.unpack(">i", self.take(4))[0]


def character_vector(data, where):
    """Return the strings of an XDR-serialized R character vector.

    `where` names the record in messages. NA becomes an empty line.
    """
    xdr = Xdr(data, where)
    if xdr.take(2) != b"X\n":
        raise AustenError(f"{where}: not an XDR serialization of R")
    version = xdr.int32()
    xdr.take(8)  # version of the writer, least version of a reader
    if version == 3:
        xdr.take(xdr.int32())  # name of the native encoding
    elif version != 2:
        raise AustenError(f"{where}: serialization version {version}")
    kind = xdr.int32()
    if kind & 0xff != 16 or kind & 0x200:
        raise AustenError(f"{where}: type {kind:#x} is no plain character "
                          "vector")
    lines = []
    for _ in range(xdr.int32()):
        flags = xdr.int32()
        if flags & 0xff != 9:
            raise AustenError(f"{where}: type {flags:#x} is no string")
        size = xdr.int32()
        raw = b"" if size == -1 else xdr.take(size)
        # gp bits 12..: 4 = Latin-1, 8 = UTF-8, 64 = ASCII
        encoding = "latin-1" if (flags >> 12) & 4 else "utf-8"
        try:
            lines.append(raw.decode(encoding))
        except UnicodeDecodeError as error:
            raise AustenError(f"{where}: line {len(lines) + 1}: "
                              f"{error}") from error
    return lines


def novels_of_database(path):
    """Return {novel: text} from the package's Rdata.rdb at `path`."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise AustenError(f"'{path}': {error.strerror}; is this the package "
                          f"{PACKAGE}?") from error
    found = {}
    for number, record in enumerate(records(data, path)):
        lines = character_vector(record, f"'{path}': record {number}")
        title = lines[0].strip().upper() if lines else ""
        if title in NOVELS:
            found[NOVELS[title]] = "".join(line + "\n" for line in lines)
    missing = [title for title, key in NOVELS.items() if key not in found]
    if missing:
        raise AustenError(f"'{path}': no novel titled {', '.join(missing)}")
    return found


def run(command, cwd, remedy):
    """Run a command quietly; on failure raise its last line and `remedy`."""
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True,
                       text=True)
    except FileNotFoundError as error:
        raise AustenError(f"'{command[0]}' is not installed; "
                          f"{remedy}") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "").strip().split("\n")[-1]
        raise AustenError(f"{' '.join(command)}: {said}; {remedy}") from error


def novels_of_package(deb):
    """Return {novel: text} from the package file `deb`, fetched if None."""
    plain = "or give a directory of plain texts with --texts (see --help)"
    with tempfile.TemporaryDirectory(prefix="austen-") as temp:
        if deb is None:
            command = ["apt-get", "download"]
            if os.geteuid() == 0:  # apt's own user may not enter `temp`
                command += ["-o", "APT::Sandbox::User=root"]
            run(command + [PACKAGE], temp, "run 'apt-get update' first, "
                f"download {PACKAGE} by hand and give it with --deb, {plain}")
            names = [n for n in os.listdir(temp) if n.endswith(".deb")]
            if not names:
                raise AustenError(f"apt-get left no package; {plain}")
            deb = os.path.join(temp, names[0])
        elif not os.path.isfile(deb):
            raise AustenError(f"'{deb}': no such file")
        root = os.path.join(temp, "root")
        run(["dpkg-deb", "-x", os.path.abspath(deb), root], temp,
            f"give a sound package with --deb, {plain}")
        return novels_of_database(os.path.join(root, RDB))


def novels_of_directory(directory):
    """Return {novel: text} from the plain texts in `directory`."""
    found = {}
    for key in NOVELS.values():
        path = os.path.join(directory, key + ".txt")
        try:
            with open(path, encoding="utf-8-sig") as file:
                found[key] = file.read()
        except OSError as error:
            raise AustenError(
                f"'{path}': {error.strerror}; --texts needs "
                f"{', '.join(k + '.txt' for k in NOVELS.values())}") from error
        except UnicodeDecodeError as error:
            raise AustenError(f"'{path}': byte {error.start}: not UTF-8; "
                              "convert it with iconv") from error
        if not found[key].strip():
            raise AustenError(f"'{path}': empty")
        if not found[key].endswith("\n"):
            found[key] += "\n"
    return found


def compose(novels):
    """Return {output name: bytes} of the three texts."""
    return {name: "".join(novels[key] for key in keys).encode("utf-8")
            for name, (keys, _) in OUTPUTS.items()}


def differing(texts):
    """Return a line for each output whose SHA-256 is not the known one."""
    lines = []
    for name, (_, known) in OUTPUTS.items():
        got = hashlib.sha256(texts[name]).hexdigest()
        if got != known:
            lines.append(f"'{name}': SHA-256 {got}, known {known}")
    return lines


def write(directory, texts):
    """Write the texts, each at once: a killed run leaves no half text."""
    try:
        os.makedirs(directory, exist_ok=True)
        for name, data in texts.items():
            part = os.path.join(directory, f".{name}.{os.getpid()}")
            try:
                with open(part, "wb") as file:
                    file.write(data)
                os.replace(part, os.path.join(directory, name))
            finally:
                if os.path.exists(part):
                    os.unlink(part)
    except OSError as error:
        raise AustenError(f"cannot write '{error.filename or directory}': "
                          f"{error.strerror}; free space or choose another "
                          "directory with -o") from error


def present(directory):
    """True if all three texts are there with their known checksums."""
    texts = {}
    for name in OUTPUTS:
        try:
            with open(os.path.join(directory, name), "rb") as file:
                texts[name] = file.read()
        except OSError:
            return False
    return not differing(texts)


def main(argv=None):
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-o", "--output", metavar="DIR",
                        default=os.path.join(here, "austen"))
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--deb", metavar="FILE",
                        help="the package, already downloaded")
    source.add_argument("--texts", metavar="DIR",
                        help="plain texts instead of the package")
    parser.add_argument("--unverified", action="store_true",
                        help="accept a package whose texts have changed")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args(argv)

    try:
        chosen = args.deb or args.texts
        if not chosen and present(args.output):
            if not args.quiet:
                print(f"{args.output}: texts are there")
            return 0
        texts = compose(novels_of_directory(args.texts) if args.texts
                        else novels_of_package(args.deb))
        changed = differing(texts)
        if changed and not (args.texts or args.unverified):
            raise AustenError(
                "the package's texts have changed:\n  " + "\n  ".join(changed)
                + "\n  pass --unverified to take them as they are; figures "
                "in the documentation will not be reproduced")
        if changed:
            print("austen.py: warning: these are not the texts the zoo was "
                  "trained on; figures will differ:\n  "
                  + "\n  ".join(changed), file=sys.stderr)
        write(args.output, texts)
    except AustenError as error:
        print(f"austen.py: {error}", file=sys.stderr)
        return 1
    if not args.quiet:
        for name, data in texts.items():
            print(f"{os.path.join(args.output, name)}: {len(data)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
