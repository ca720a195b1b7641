/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ptq/base/text.h"

ptq_status ptq_journal_open(const char *dir, int rank, ptq_journal *out,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_text path = {0};
  *out = (ptq_journal){.fd = -1, .rank = rank};
  if (dir == NULL) return PTQ_OK;
  if (gethostname(out->host, sizeof out->host - 1) != 0)
    (void)ptq_text_copy(out->host, sizeof out->host, "unknown");
  if (mkdir(dir, 0777) != 0 && errno != EEXIST)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO,
                     "--log: cannot make directory '%s': %s; name one that "
                     "can be written",
                     dir, strerror(errno)));
  ptq_text_addf(&path, "%s/rank-%d.jsonl", dir, rank);
  if (path.rc == PTQ_OK)
    out->fd = open(path.buf, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (out->fd < 0)
    rc = PTQ_FAIL(err, PTQ_E_IO,
                  "--log: cannot write '%s': %s; name a directory that can be "
                  "written",
                  ptq_text_str(&path), strerror(errno));
done:
  ptq_text_release(&path);
  return rc;
}

void ptq_journal_close(ptq_journal *j) {
  if (j->fd >= 0) (void)close(j->fd);
  j->fd = -1;
}

/* The members that every line has; NULL when no journal is kept. */
static json_t *line(const ptq_journal *j, const char *event) {
  struct timespec now;
  struct tm utc;
  char text[40] = "", time_text[64];
  if (j->fd < 0) return NULL;
  (void)clock_gettime(CLOCK_REALTIME, &now);
  if (gmtime_r(&now.tv_sec, &utc) != NULL)
    (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  (void)snprintf(time_text, sizeof time_text, "%.30s.%03dZ", text,
                 (int)(now.tv_nsec / 1000000));
  return json_pack("{s:s, s:i, s:s, s:I, s:s}", "time", time_text, "rank",
                   j->rank, "host", j->host, "pid", (json_int_t)getpid(),
                   "event", event);
}

/* One write a line: lines of a process never mix. Takes `out` over. */
static void put(const ptq_journal *j, json_t *out) {
  char *text = out != NULL ? json_dumps(out, JSON_COMPACT) : NULL;
  ptq_text t = {0};
  if (text != NULL) {
    ptq_text_add(&t, text);
    ptq_text_add(&t, "\n");
    const ssize_t n = t.rc == PTQ_OK ? write(j->fd, t.buf, t.len) : 0;
    (void)n;
  }
  ptq_text_release(&t);
  free(text);
  json_decref(out);
}

static json_t *number(double v) {
  return isfinite(v) ? json_real(v) : json_null();
}

void ptq_journal_text(ptq_journal *j, const char *event, const char *name,
                      const char *text) {
  json_t *out = line(j, event);
  if (out != NULL) (void)json_object_set_new(out, name, json_string(text));
  put(j, out);
}

void ptq_journal_begin(ptq_journal *j, const int64_t *points, int64_t n) {
  json_t *out = line(j, "begin");
  json_t *list = out != NULL ? json_array() : NULL;
  for (int64_t i = 0; list != NULL && i < n; i++)
    (void)json_array_append_new(list, json_integer(points[i]));
  if (list != NULL) (void)json_object_set_new(out, "points", list);
  put(j, out);
}

void ptq_journal_point(ptq_journal *j, const ptq_point_result *p) {
  json_t *out = line(j, "point");
  if (out != NULL) {
    (void)json_object_set_new(out, "point", json_integer(p->point));
    (void)json_object_set_new(out, "state",
                              json_string(ptq_state_name((int)p->state)));
    (void)json_object_set_new(out, "seconds", number(p->seconds));
    (void)json_object_set_new(out, "nll", number(p->row.nll));
    (void)json_object_set_new(out, "message", json_string(p->message));
  }
  put(j, out);
}

void ptq_journal_subject(ptq_journal *j, const ptq_subject_result *s) {
  json_t *out = line(j, "model");
  if (out != NULL) {
    (void)json_object_set_new(out, "model", json_string(s->row.model));
    (void)json_object_set_new(out, "state",
                              json_string(ptq_state_name((int)s->state)));
    (void)json_object_set_new(out, "seconds", number(s->seconds));
    (void)json_object_set_new(out, "message", json_string(s->message));
  }
  put(j, out);
}

void ptq_journal_direction(ptq_journal *j, const ptq_direction_result *d) {
  json_t *out = line(j, "direction");
  if (out != NULL) {
    (void)json_object_set_new(out, "direction", json_integer(d->direction));
    (void)json_object_set_new(out, "model", json_string(d->row.model));
    (void)json_object_set_new(out, "state",
                              json_string(ptq_state_name((int)d->state)));
    (void)json_object_set_new(out, "seconds", number(d->seconds));
    (void)json_object_set_new(out, "message", json_string(d->message));
  }
  put(j, out);
}

void ptq_journal_steps(ptq_journal *j, const char *event, int64_t direction,
                       int64_t n) {
  json_t *out = line(j, event);
  if (out != NULL) {
    (void)json_object_set_new(out, "direction", json_integer(direction));
    (void)json_object_set_new(out, "steps", json_integer(n));
  }
  put(j, out);
}

void ptq_journal_end(ptq_journal *j, int exit_code, int64_t done,
                     int64_t failed, double seconds) {
  json_t *out = line(j, "end");
  if (out != NULL) {
    (void)json_object_set_new(out, "status", json_integer(exit_code));
    (void)json_object_set_new(out, "points_done", json_integer(done));
    (void)json_object_set_new(out, "points_failed", json_integer(failed));
    (void)json_object_set_new(out, "seconds", number(seconds));
  }
  put(j, out);
}
