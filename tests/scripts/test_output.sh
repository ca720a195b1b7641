#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# No command writes over what it reads, nor over a store: it is refused under
# any name, before anything is written, and the files are what they were.
. "$(dirname "$0")/common.sh"
make_study
"$PTQ_BINARY_DIR/tests/test_crash" --make s.h5
cp s.h5 other.h5
cp s.h5 extension.csv
ln -s s.h5 soft
ln s.h5 hard
mkdir sub
printf 'name: s\n' >s.yaml
head -c 4096 s.h5 >broken.h5 # HDF5 cannot open it, its signature is there
sha256sum s.h5 other.h5 extension.csv s.yaml broken.h5 >before

refused() {  # refused PATTERN COMMAND...
  expect 2 "$1" "$PTQSWEEP" "${@:2}"
  sha256sum --quiet -c before || fail "changed by: ${*:2}"
}

itself="is the input 's.h5' itself, which would be lost; name another"
store="is a store or another HDF5 file, which would be lost; name another"
for name in s.h5 ./s.h5 sub/../s.h5 "$PWD/s.h5" soft hard; do
  for format in csv jsonl netcdf; do
    refused "output '$name' $itself" export s.h5 --table points -f $format \
      -o "$name"
  done
  refused "$itself" allocate s.h5 --probe -o "$name"
  refused "$itself" allocate s.h5 --probe-blocks -o "$name"
  refused "$itself" allocate s.h5 --equal --bits 4 -o "$name"
  refused "$itself" allocate s.h5 --bits 4 --probes other.h5 -o "$name"
  refused "$itself" materialize s.h5 --point 0 -o "$name"
  refused "$itself" merge "$name" other.h5 s.h5
  refused "$itself" report s.h5 -o "$name"
done
refused "is the input 'other.h5' itself" \
  allocate s.h5 --bits 4 --probes other.h5 -o other.h5
refused "is the input 's.yaml' itself" run s.yaml -o s.yaml
refused "is the input 's.yaml' itself" \
  materialize s.h5 --point 0 --spec s.yaml -o s.yaml
refused "is the input 'extension.csv' itself" report extension.csv -o .

# Another store is nobody's input, and lost all the same.
for name in other.h5 extension.csv broken.h5; do
  refused "output '$name' $store" export s.h5 --table points -o "$name"
  refused "output '$name' $store" export s.h5 --table points -f netcdf \
    -o "$name"
  refused "output '$name' $store" allocate s.h5 --equal --bits 4 -o "$name"
  refused "output '$name' $store" allocate s.h5 --probe -o "$name"
done
expect 1 "is there already" "$PTQSWEEP" merge other.h5 s.h5
sha256sum --quiet -c before

# What an export wrote, and what is no HDF5, may be replaced.
for format in csv jsonl netcdf netcdf csv; do
  "$PTQSWEEP" export s.h5 --table points -f $format -o points.out
done
[ "$(wc -l <points.out)" = 7 ] || fail "points.out"
ln -s points.out link.out
"$PTQSWEEP" export s.h5 --table points -f netcdf -o link.out
for what in s.yaml points.out; do # run goes on with stores alone
  cp $what was
  expect 1 "$what" "$PTQSWEEP" run sweep.yaml -o $what
  expect 1 "$what" "$PTQSWEEP" run sweep.yaml -o $what --extend
  cmp $what was || fail "run wrote into $what"
done
sha256sum --quiet -c before
[ -z "$(find . -name '*.new-*' -o -name '*.tmp.*')" ] || fail "left behind"
