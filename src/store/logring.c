/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "logring.h"

#include <stdio.h>
#include <string.h>

#include "pack.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"

enum { LOOKS = 3 };

static const ptq_h5_set *lines(const ptq_sets *s) {
  return &s->set[PTQ_SET_LOG];
}
static const ptq_h5_set *sums(const ptq_sets *s) {
  return &s->set[PTQ_SET_LOG_CHECKSUM];
}

/* Line `number`; NULL: that there are so many lines. */
static uint32_t sum_of(int64_t number, const char *line) {
  unsigned char head[8];
  ptq_pack_i64(head, number);
  uint32_t crc = ptq_crc(0, head, sizeof head);
  if (line != NULL) crc = ptq_crc(crc, line, PTQ_LOG_LINE);
  return ptq_crc_guarded(crc);
}

/* The checksum of a slot, or behind them all that of their number. */
static ptq_status put_sum(const ptq_sets *s, int64_t slot, uint32_t sum,
                          ptq_err *err) {
  unsigned char bytes[4];
  ptq_put_u32(bytes, sum);
  return ptq_h5_write(sums(s), slot, 1, bytes, err);
}

static ptq_status put_next(const ptq_sets *s, int64_t next, ptq_err *err) {
  unsigned char raw[8];
  ptq_pack_i64(raw, next);
  return ptq_h5_write(&s->set[PTQ_SET_LOG_NEXT], 0, 1, raw, err);
}

ptq_status ptq_logring_next(const ptq_sets *s, int64_t *next, ptq_err *err) {
  unsigned char raw[8] = {0};
  const ptq_status rc = ptq_h5_read(&s->set[PTQ_SET_LOG_NEXT], 0, 1, raw, err);
  *next = ptq_unpack_i64(raw);
  return rc;
}

ptq_status ptq_logring_add(const ptq_sets *s, const char *line, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n_slots = lines(s)->rows;
  char text[PTQ_LOG_LINE] = {0};
  int64_t n = 0;
  PTQ_TRY(ptq_logring_next(s, &n, err));
  if (n < 0) n = 0; /* damaged */
  const int64_t slot = n % n_slots;
  (void)ptq_text_copy(text, sizeof text, line);
  PTQ_TRY(put_sum(s, n_slots, 0, err));
  PTQ_TRY(put_sum(s, slot, 0, err));
  PTQ_TRY(ptq_h5_write(lines(s), slot, 1, text, err));
  PTQ_TRY(put_next(s, n + 1, err));
  PTQ_TRY(put_sum(s, slot, sum_of(n, text), err));
  PTQ_TRY(put_sum(s, n_slots, sum_of(n + 1, NULL), err));
done:
  return rc;
}

/* The ring in memory. */
typedef struct ring {
  int64_t next, n_slots;
  char *line;          /* owned; [n_slots] of PTQ_LOG_LINE bytes */
  unsigned char *sums; /* owned; [n_slots + 1] */
} ring;

static void ring_release(ring *r) {
  ptq_free(r->line);
  ptq_free(r->sums);
}

static ptq_status ring_init(ring *r, const ptq_sets *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *r = (ring){.n_slots = lines(s)->rows};
  PTQ_TRY(ptq_alloc(&r->line, r->n_slots, PTQ_LOG_LINE, "log", err));
  PTQ_TRY(ptq_alloc(&r->sums, r->n_slots + 1, 4, "log", err));
done:
  return rc;
}

static ptq_status ring_read(ring *r, const ptq_sets *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_logring_next(s, &r->next, err));
  PTQ_TRY(ptq_h5_read(lines(s), 0, r->n_slots, r->line, err));
  PTQ_TRY(ptq_h5_read(sums(s), 0, r->n_slots + 1, r->sums, err));
done:
  return rc;
}

static const char *line_of(const ring *r, int64_t number) {
  return r->line + (size_t)(number % r->n_slots) * PTQ_LOG_LINE;
}

static uint32_t stored_sum(const ring *r, int64_t slot) {
  return ptq_get_u32(r->sums + 4 * slot);
}

static int64_t first_line(const ring *r) {
  return r->next > r->n_slots ? r->next - r->n_slots : 0;
}

/* A writer was at it, or is. */
static bool is_unsealed(const ring *r) {
  return stored_sum(r, r->n_slots) == 0;
}

static bool count_is_bad(const ring *r) {
  return r->next < 0 ||
         (is_unsealed(r) ? r->next > INT64_MAX / 2
                         : stored_sum(r, r->n_slots) != sum_of(r->next, NULL));
}

static bool line_is_bad(const ring *r, int64_t number) {
  const uint32_t stored = stored_sum(r, number % r->n_slots);
  if (stored == 0) return !is_unsealed(r) && r->next > 0;
  return stored != sum_of(number, line_of(r, number));
}

/* Lines that nobody has written have neither number nor sum. */
static bool is_untouched(const ring *r) {
  return r->next == 0 && is_unsealed(r);
}

static int64_t count_bad(const ring *r) {
  if (is_untouched(r)) return 0;
  if (count_is_bad(r)) return 1;
  int64_t n = 0;
  for (int64_t i = first_line(r); i < r->next; i++) n += line_is_bad(r, i);
  return n;
}

ptq_status ptq_logring_check(const ptq_sets *s, ptq_integrity_report report,
                             void *ctx, int64_t *n_bad, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ring r = {0};
  if (sums(s)->rows == 0) return PTQ_OK;
  PTQ_TRY(ring_init(&r, s, err));
  int64_t n = 1;
  for (int i = 0; i < LOOKS && n > 0; i++) { /* a run may be writing */
    PTQ_TRY(ring_read(&r, s, err));
    n = count_bad(&r);
  }
  *n_bad += n;
  if (n == 0 || report == NULL) goto done;
  if (count_is_bad(&r)) {
    report(ctx, s->set[PTQ_SET_LOG_NEXT].name, 0, "its checksum differs");
    goto done;
  }
  for (int64_t i = first_line(&r); i < r.next; i++)
    if (line_is_bad(&r, i))
      report(ctx, lines(s)->name, i % r.n_slots, "its checksum differs");
done:
  ring_release(&r);
  return rc;
}

/* How many lines from the first on are right, in a ring that never turned. */
static int64_t count_lines(const ring *r) {
  int64_t n = 0;
  while (n < r->n_slots &&
         stored_sum(r, n) == sum_of(n, r->line + (size_t)n * PTQ_LOG_LINE))
    n++;
  return n;
}

static ptq_status mend_line(const ptq_sets *s, const ring *r, int64_t number,
                            int64_t *n_lost, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t slot = number % r->n_slots;
  char text[PTQ_LOG_LINE] = "(this line was damaged)";
  const char *line = line_of(r, number);
  if (line_is_bad(r, number)) {
    PTQ_TRY(ptq_h5_write(lines(s), slot, 1, text, err));
    line = text;
    ++*n_lost;
  } else if (stored_sum(r, slot) != 0) {
    goto done;
  }
  PTQ_TRY(put_sum(s, slot, sum_of(number, line), err));
done:
  return rc;
}

ptq_status ptq_logring_mend(const ptq_sets *s, int64_t *n_lost, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ring r = {0};
  if (sums(s)->rows == 0) return PTQ_OK;
  PTQ_TRY(ring_init(&r, s, err));
  PTQ_TRY(ring_read(&r, s, err));
  if (is_untouched(&r)) goto done;
  if (count_is_bad(&r)) {
    ++*n_lost;
    r.next = count_lines(&r);
    PTQ_TRY(put_sum(s, r.n_slots, 0, err));
    PTQ_TRY(put_next(s, r.next, err));
  }
  for (int64_t i = first_line(&r); i < r.next; i++)
    PTQ_TRY(mend_line(s, &r, i, n_lost, err));
  PTQ_TRY(put_sum(s, r.n_slots, sum_of(r.next, NULL), err));
done:
  ring_release(&r);
  return rc;
}

ptq_status ptq_logring_copy(const ptq_sets *to, const ptq_sets *from,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ring r = {0};
  const bool has_sums = sums(from)->rows == lines(from)->rows + 1;
  if (lines(to)->rows != lines(from)->rows ||
      lines(to)->row_bytes != lines(from)->row_bytes)
    return PTQ_OK;
  PTQ_TRY(ring_init(&r, from, err));
  PTQ_TRY(ptq_logring_next(from, &r.next, err));
  PTQ_TRY(ptq_h5_read(lines(from), 0, r.n_slots, r.line, err));
  if (has_sums) {
    PTQ_TRY(ptq_h5_read(sums(from), 0, r.n_slots + 1, r.sums, err));
  } else {
    for (int64_t i = first_line(&r); i < r.next; i++)
      ptq_put_u32(r.sums + 4 * (i % r.n_slots), sum_of(i, line_of(&r, i)));
    ptq_put_u32(r.sums + 4 * r.n_slots, sum_of(r.next, NULL));
  }
  PTQ_TRY(ptq_h5_write(lines(to), 0, r.n_slots, r.line, err));
  PTQ_TRY(put_next(to, r.next, err));
  PTQ_TRY(ptq_h5_write(sums(to), 0, r.n_slots + 1, r.sums, err));
done:
  ring_release(&r);
  return rc;
}
