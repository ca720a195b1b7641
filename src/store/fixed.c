/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "fixed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pack.h"
#include "ptq/base/mem.h"

enum {
  BUFFER_BYTES = 1 << 20,
  /* Of the superblock: bit 0 says that the file is open for writing, and stays
   * when its writer is killed. Version 0, which stores have, ignores it. */
  OPEN_MARK_AT = 20,
  OPEN_MARK = 1
};

static bool is_fixed(ptq_set_id id) {
  return strncmp(ptq_set_get(id)->name, "index/", sizeof "index/" - 1) == 0;
}

int64_t ptq_fixed_count(void) {
  int64_t n = 1;
  for (int i = 0; i < PTQ_SET_COUNT; i++) n += is_fixed((ptq_set_id)i);
  return n;
}

ptq_set_id ptq_fixed_set(int64_t i) {
  int id = 0;
  if (i == 0) return PTQ_SET_COUNT;
  for (; id < PTQ_SET_COUNT; id++)
    if (is_fixed((ptq_set_id)id) && --i == 0) break;
  return (ptq_set_id)id;
}

/* Bytes of the file that belong to a dataset. */
typedef struct extent {
  uint64_t at, end;
} extent;

static int by_place(const void *a, const void *b) {
  const extent *x = a, *y = b;
  return (x->at > y->at) - (x->at < y->at);
}

static void note(const ptq_h5_set *set, extent *out, int64_t *n) {
  if (set->id < 0 || set->rows == 0) return;
  const haddr_t at = H5Dget_offset(set->id);
  const hsize_t size = H5Dget_storage_size(set->id);
  if (at != HADDR_UNDEF && size > 0) out[(*n)++] = (extent){at, at + size};
}

/* The places of all of the store's datasets, in order. */
static ptq_status find_extents(const ptq_sets *s, extent **out, int64_t *n,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *n = 0;
  PTQ_TRY(ptq_alloc(out, PTQ_SET_COUNT + s->n_spectra, sizeof **out,
                    "places of datasets", err));
  for (int i = 0; i < PTQ_SET_COUNT; i++) note(&s->set[i], *out, n);
  for (int64_t i = 0; i < s->n_spectra; i++) {
    ptq_h5_set set = PTQ_H5_SET_NONE;
    PTQ_TRY(ptq_sets_spectrum(s, i, &set, err));
    note(&set, *out, n);
    ptq_h5_close(&set);
  }
  qsort(*out, (size_t)*n, sizeof **out, by_place);
done:
  return rc;
}

/* Continue over the bytes [at, end) of the file, or to its end. */
static ptq_status add_bytes(const char *path, int fd, unsigned char *buffer,
                            uint64_t at, uint64_t end, uint32_t *crc,
                            ptq_err *err) {
  while (at < end) {
    const uint64_t left = end - at;
    const size_t ask = left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES;
    const ssize_t got =
        ptq_fault() ? (errno = EIO, -1) : pread(fd, buffer, ask, (off_t)at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return PTQ_FAIL(err, PTQ_E_IO, "store '%s': cannot read it: %s", path,
                      strerror(errno));
    if (got == 0) break;
    if (at <= OPEN_MARK_AT && OPEN_MARK_AT - at < (uint64_t)got)
      buffer[OPEN_MARK_AT - at] &= (unsigned char)~OPEN_MARK;
    *crc = ptq_crc(*crc, buffer, (size_t)got);
    at += (uint64_t)got;
  }
  return PTQ_OK;
}

/* Everything that is in no dataset. */
static ptq_status sum_rest(const ptq_sets *s, uint32_t *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  extent *taken = NULL;
  unsigned char *buffer = NULL;
  int64_t n = 0;
  uint64_t at = 0;
  uint32_t crc = 0;
  const int fd = open(s->path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO, "store '%s': cannot open it: %s", s->path,
                     strerror(errno)));
  PTQ_TRY(ptq_alloc(&buffer, BUFFER_BYTES, 1, "bytes of the file", err));
  PTQ_TRY(find_extents(s, &taken, &n, err));
  for (int64_t i = 0; i < n; i++) {
    PTQ_TRY(add_bytes(s->path, fd, buffer, at, taken[i].at, &crc, err));
    if (taken[i].end > at) at = taken[i].end;
  }
  PTQ_TRY(add_bytes(s->path, fd, buffer, at, UINT64_MAX, &crc, err));
  *out = ptq_crc_stored(crc);
done:
  ptq_free(taken);
  ptq_free(buffer);
  if (fd >= 0) (void)close(fd);
  return rc;
}

static ptq_status sum_set(const ptq_h5_set *set, uint32_t *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  unsigned char *bytes = NULL;
  PTQ_TRY(ptq_alloc(&bytes, set->rows, set->row_bytes, set->name, err));
  PTQ_TRY(ptq_h5_read(set, 0, set->rows, bytes, err));
  *out = ptq_crc_stored(ptq_crc(0, bytes, (size_t)set->rows * set->row_bytes));
done:
  ptq_free(bytes);
  return rc;
}

static ptq_status sum_of(const ptq_sets *s, int64_t i, uint32_t *out,
                         ptq_err *err) {
  return i == 0 ? sum_rest(s, out, err)
                : sum_set(&s->set[ptq_fixed_set(i)], out, err);
}

ptq_status ptq_fixed_seal(const ptq_sets *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < ptq_fixed_count(); i++) {
    unsigned char bytes[4];
    uint32_t sum = 0;
    PTQ_TRY(sum_of(s, i, &sum, err));
    ptq_put_u32(bytes, sum);
    PTQ_TRY(ptq_h5_write(&s->set[PTQ_SET_FIXED_CHECKSUM], i, 1, bytes, err));
  }
done:
  return rc;
}

ptq_status ptq_fixed_check(const ptq_sets *s, ptq_integrity_report report,
                           void *ctx, int64_t *n_bad, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < s->set[PTQ_SET_FIXED_CHECKSUM].rows; i++) {
    unsigned char bytes[4];
    char why[64];
    uint32_t sum = 0;
    PTQ_TRY(sum_of(s, i, &sum, err));
    PTQ_TRY(ptq_h5_read(&s->set[PTQ_SET_FIXED_CHECKSUM], i, 1, bytes, err));
    if (ptq_get_u32(bytes) == sum) continue;
    ++*n_bad;
    (void)snprintf(why, sizeof why, "checksum %08x stored, %08x computed",
                   (unsigned)ptq_get_u32(bytes), (unsigned)sum);
    if (report != NULL)
      report(ctx, i == 0 ? "/" : s->set[ptq_fixed_set(i)].name, i, why);
  }
done:
  return rc;
}
