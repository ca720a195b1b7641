/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "spool.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"

enum { PATH_ROOM = 4096 };

int64_t ptq_room_share(ptq_room room, int64_t n) {
  const int64_t ranks = room.ranks > 1 ? room.ranks : 1;
  return (n + ranks - 1) / ranks;
}

ptq_room ptq_room_alone(ptq_room room) {
  return (ptq_room){.scratch = room.scratch, .hands = room.hands};
}

static ptq_status open_file(ptq_spool *s, const char *scratch, int64_t n,
                            ptq_err *err) {
  char path[PATH_ROOM];
  const int length = snprintf(path, sizeof path, "%s/ptqsweep-XXXXXX", scratch);
  if (length < 0 || length >= (int)sizeof path)
    return PTQ_FAIL(err, PTQ_E_ARG, "--scratch: the path is too long");
  s->fd = ptq_fault() ? -1 : mkstemp(path);
  if (s->fd < 0)
    return PTQ_FAIL(err, PTQ_E_IO, "--scratch: cannot make a file in '%s': %s",
                    scratch, strerror(errno));
  (void)unlink(path);
  const off_t bytes = (off_t)(n * s->size) * (off_t)sizeof(float);
  if (ftruncate(s->fd, bytes) != 0)
    return PTQ_FAIL(err, PTQ_E_IO,
                    "--scratch: no %lld bytes for a file in '%s': %s",
                    (long long)bytes, scratch, strerror(errno));
  return PTQ_OK;
}

ptq_status ptq_spool_open(ptq_spool *s, ptq_room room, int64_t n, int64_t size,
                          const char *what, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const bool file = room.scratch != NULL;
  const int64_t own = ptq_room_share(room, n);
  *s = (ptq_spool){.fd = -1,
                   .n = n,
                   .size = size,
                   .ranks = room.ranks > 1 ? room.ranks : 1,
                   .n_hands = room.hands};
  PTQ_TRY(ptq_alloc(&s->memory, (file ? room.hands : own) * size,
                    sizeof *s->memory, what, err));
  PTQ_TRY(ptq_alloc(&s->hands, room.hands, sizeof *s->hands, what, err));
  for (int h = 0; h < room.hands; h++) s->hands[h].at = -1;
  if (!file) return PTQ_OK;
  PTQ_TRY(ptq_alloc(&s->version, own, sizeof *s->version, what, err));
  PTQ_TRY(open_file(s, room.scratch, own, err));
done:
  if (rc != PTQ_OK) ptq_spool_close(s);
  return rc;
}

/* A spool that was never opened, all zero, has no file either. */
void ptq_spool_close(ptq_spool *s) {
  if (s->memory != NULL && s->fd >= 0) (void)close(s->fd);
  ptq_free(s->memory);
  ptq_free(s->hands);
  ptq_free(s->version);
  *s = (ptq_spool){.fd = -1};
}

int64_t ptq_spool_place(const ptq_spool *s, int64_t i) {
  return i / s->ranks;
}

static ptq_status broken(const char *what, ptq_err *err) {
  return PTQ_FAIL(err, PTQ_E_IO, "--scratch: cannot %s a scratch file: %s",
                  what, strerror(errno));
}

ptq_status ptq_spool_get(ptq_spool *s, int hand, int64_t i, float **x,
                         ptq_err *err) {
  ptq_spool_hand *h = &s->hands[hand];
  PTQ_ASSERT(hand >= 0 && hand < s->n_hands && i >= 0 && i < s->n);
  const int64_t place = ptq_spool_place(s, i);
  const bool there =
      s->fd < 0 || (h->at == i && h->version == s->version[place]);
  *x = ptq_spool_fresh(s, hand, i);
  if (there) return PTQ_OK;
  const int64_t bytes = s->size * (int64_t)sizeof *s->memory;
  char *to = (char *)*x;
  h->at = -1;
  for (int64_t done = 0; done < bytes;) {
    const ssize_t got = pread(s->fd, to + done, (size_t)(bytes - done),
                              (off_t)(place * bytes + done));
    if (got <= 0) return broken("read", err);
    done += got;
  }
  h->at = i;
  return PTQ_OK;
}

float *ptq_spool_fresh(ptq_spool *s, int hand, int64_t i) {
  PTQ_ASSERT(hand >= 0 && hand < s->n_hands && i >= 0 && i < s->n);
  const int64_t place = ptq_spool_place(s, i);
  s->hands[hand].at = i;
  if (s->fd < 0) return s->memory + place * s->size;
  s->hands[hand].version = s->version[place];
  return s->memory + hand * s->size;
}

int64_t ptq_spool_at(const ptq_spool *s, int hand) {
  return s->hands[hand].at;
}

ptq_status ptq_spool_put(ptq_spool *s, int hand, int64_t n, ptq_err *err) {
  if (s->fd < 0) return PTQ_OK;
  ptq_spool_hand *h = &s->hands[hand];
  const int64_t bytes = n * (int64_t)sizeof *s->memory;
  const int64_t place = ptq_spool_place(s, h->at);
  const int64_t first = place * s->size * (int64_t)sizeof *s->memory;
  const char *from = (const char *)(s->memory + hand * s->size);
  h->version = ++s->version[place];
  for (int64_t done = 0; done < bytes;) {
    const ssize_t put = pwrite(s->fd, from + done, (size_t)(bytes - done),
                               (off_t)(first + done));
    if (put <= 0) return broken("write", err);
    done += put;
  }
  return PTQ_OK;
}

int64_t ptq_spool_bytes(ptq_room room, int64_t n, int64_t size) {
  const int64_t windows =
      room.scratch != NULL ? room.hands : ptq_room_share(room, n);
  return windows * size * (int64_t)sizeof(float);
}
