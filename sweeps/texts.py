#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Join the documents of a corpus to one plain text for a sweep.

  texts.py FILE... -o TEXT [--column NAME] [--join wikitext|c4|ptb|STRING]
           [--documents N]

FILE is JSON lines (.jsonl, .json, both also .gz), parquet (.parquet), or plain
text, taken whole as one document. Documents are joined as the GPTQ scripts
join them: --join wikitext puts two line feeds between them (WikiText-2 and
WikiText-103), c4 and ptb a space; any other string stands between them as it
is, with \\n for a line feed. Default: wikitext. --documents N takes the first
N documents (the GPTQ scripts: 1100 of C4's validation part).

  texts.py wikitext-2-raw-v1/test-00000-of-00001.parquet -o test.txt
  texts.py c4-validation.00000-of-00008.json.gz --join c4 --documents 1100 \\
    -o c4.txt

The name of the text stands in the store, with a hash of its bytes in the key.
parquet needs pyarrow, everything else Python alone.
"""
import argparse
import gzip
import json
import os
import sys
import tempfile

JOINS = {"wikitext": "\n\n", "c4": " ", "ptb": " "}


class TextError(Exception):
    """A failure with a message for the user."""


def json_lines(path, column):
    """Documents of a JSON-lines file."""
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise TextError(f"{path}:{number}: not JSON: {error}") from error
            if not isinstance(row, dict) or not isinstance(row.get(column), str):
                raise TextError(f"{path}:{number}: no text '{column}'; name it "
                                "with --column")
            yield row[column]


def parquet(path, column):
    """Documents of a parquet file."""
    try:
        import pyarrow.parquet as table
    except ImportError as error:
        raise TextError(f"'{path}': parquet needs pyarrow: pip install "
                        "pyarrow") from error
    try:
        file = table.ParquetFile(path)
        if column not in file.schema_arrow.names:
            raise TextError(f"'{path}': no column '{column}', only "
                            f"{', '.join(file.schema_arrow.names)}; name it "
                            "with --column")
        for batch in file.iter_batches(columns=[column]):
            for value in batch.column(0).to_pylist():
                if not isinstance(value, str):
                    raise TextError(f"'{path}': '{column}' holds what is no "
                                    "text")
                yield value
    except (ValueError, OSError) as error:
        raise TextError(f"'{path}': {error}") from error


def documents(path, column):
    """Documents of a file by its name."""
    plain = path.removesuffix(".gz")
    if plain.endswith((".jsonl", ".json", ".ndjson")):
        yield from json_lines(path, column)
    elif plain.endswith(".parquet"):
        yield from parquet(path, column)
    else:
        with open(path, encoding="utf-8", newline="") as file:
            yield file.read()


def join(paths, column, between, limit, output):
    """Write the joined text; returns the number of documents."""
    count = 0
    folder = os.path.dirname(os.path.abspath(output))
    handle, part = tempfile.mkstemp(dir=folder, prefix=".texts-")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            for path in paths:
                for document in documents(path, column):
                    if limit is not None and count == limit:
                        break
                    file.write((between if count else "") + document)
                    count += 1
        if count == 0:
            raise TextError(f"'{paths[0]}' holds no document")
        os.chmod(part, 0o644)
        os.replace(part, output)
    finally:
        if os.path.exists(part):
            os.unlink(part)
    return count


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", nargs="+", metavar="FILE")
    parser.add_argument("-o", "--output", metavar="TEXT", required=True)
    parser.add_argument("--column", default="text", metavar="NAME",
                        help="of the documents (default: text)")
    parser.add_argument("--join", default="wikitext", metavar="HOW")
    parser.add_argument("--documents", type=int, metavar="N")
    args = parser.parse_args(argv)
    between = JOINS.get(args.join, args.join.replace("\\n", "\n"))
    try:
        count = join(args.file, args.column, between, args.documents,
                     args.output)
    except TextError as error:
        print(f"texts.py: {error}", file=sys.stderr)
        return 1
    except UnicodeDecodeError as error:
        print(f"texts.py: byte {error.start} is not UTF-8", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"texts.py: '{error.filename or args.output}': "
              f"{error.strerror or error}", file=sys.stderr)
        return 1
    print(f"{args.output}: {count} documents")
    return 0


if __name__ == "__main__":
    sys.exit(main())
