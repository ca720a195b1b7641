/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What members share is a file without a name on the host's shared-memory file
 * system: the leader makes it, the others open it through the leader's process,
 * and it is gone with them. Nobody waits in the kernel or for a lock, so that
 * whoever waits sees when a member dies.
 */
#include "ptq/base/team.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "turns.h"

enum {
  STAGE_BYTES = 2 << 20, /* of one of the two halves that things go round in */
  YIELDS = 400,          /* looks before a waiting member sleeps */
  NAP_NS = 30000,
  LOOK_EVERY = 2000 /* naps: some 0.1 s */
};

/** All come before one goes on. */
typedef struct gate {
  atomic_int arrived, passed; /* members; how often it opened */
} gate;

/** What a member says at a gate. */
typedef struct word {
  int64_t index, end; /* piece that failed */
  int32_t code;
  int32_t echo; /* only that another member failed */
  char text[sizeof((ptq_err *)0)->msg];
} word;

/** What all members have; starts all zero. */
typedef struct common {
  atomic_int broken;    /* a member is dead or gone */
  atomic_int abandoned; /* one has come to the outer gate with a failure */
  gate inner, outer;    /* ptq_team_agree is the outer */
  word inner_word[2][PTQ_TEAM_MAX], outer_word[2][PTQ_TEAM_MAX];
  char stage[2][STAGE_BYTES];
} common;

/** Shared memory that this process has. */
typedef struct mapping {
  void *at;
  size_t bytes;
} mapping;

struct ptq_team {
  int rank, size;
  int64_t pids[PTQ_TEAM_MAX];
  common *c;      /* owned mapping */
  int fd;         /* owned; the leader's of it; -1 */
  mapping *maps;  /* owned; [n_maps] */
  int64_t n_maps; /* places, some free */
  char *turns;    /* owned mapping of ptq_team_alloc; or NULL */
  int64_t turns_bytes;
};

int ptq_team_rank(const ptq_team *t) {
  return t != NULL ? t->rank : 0;
}

int ptq_team_size(const ptq_team *t) {
  return t != NULL ? t->size : 1;
}

bool ptq_team_leads(const ptq_team *t) {
  return ptq_team_rank(t) == 0;
}

bool ptq_team_owns(const ptq_team *t, int64_t i) {
  return t == NULL || i % t->size == t->rank;
}

bool ptq_team_broken(const ptq_team *t) {
  return t != NULL && atomic_load(&t->c->broken) != 0;
}

/* --- Files -------------------------------------------------------------- */

/* A file of so many bytes that are really there. */
static int make_file(int64_t bytes) {
  static atomic_int count;
  char name[64];
  (void)snprintf(name, sizeof name, "/ptqsweep-%ld-%d", (long)getpid(),
                 atomic_fetch_add(&count, 1));
  (void)shm_unlink(name); /* of a process before this one */
  const int fd = ptq_fault() ? -1
                             : shm_open(name, O_RDWR | O_CREAT | O_EXCL,
                                        S_IRUSR | S_IWUSR);
  if (fd < 0) return -1;
  (void)shm_unlink(name);
  const int failed = posix_fallocate(fd, 0, (off_t)bytes);
  if (failed == 0) return fd;
  (void)close(fd);
  errno = failed;
  return -1;
}

static int open_file(const ptq_team *t, int64_t number) {
  char path[64];
  (void)snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)t->pids[0],
                 (long long)number);
  return ptq_fault() ? -1 : open(path, O_RDWR);
}

static void *map_file(int fd, int64_t bytes) {
  void *at =
      mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return at != MAP_FAILED ? at : NULL;
}

static ptq_status no_memory(int64_t bytes, const char *what, ptq_err *err) {
  return PTQ_FAIL(err, PTQ_E_NOMEM,
                  "%s: cannot share %lld bytes among a team's ranks: %s (in a "
                  "container more --shm-size helps)",
                  what, (long long)bytes, strerror(errno));
}

/* --- Waiting ------------------------------------------------------------ */

/* The dead of one's own process group may be zombies for a moment only. */
static void look_for_dead(ptq_team *t) {
  for (int i = 0; i < t->size; i++)
    if (i != t->rank && kill((pid_t)t->pids[i], 0) != 0 && errno == ESRCH)
      atomic_store(&t->c->broken, 1);
}

static void nap(ptq_team *t, int64_t *n) {
  const struct timespec pause = {.tv_nsec = NAP_NS};
  if (++*n <= YIELDS) {
    (void)sched_yield();
    return;
  }
  if (*n % LOOK_EVERY == 0) look_for_dead(t);
  (void)nanosleep(&pause, NULL);
}

bool ptq_team_nap(ptq_team *t, int64_t *n) {
  if (atomic_load(&t->c->broken) || atomic_load(&t->c->abandoned)) return true;
  nap(t, n);
  return false;
}

static ptq_status is_broken(ptq_err *err) {
  return PTQ_FAIL(err, PTQ_E_PEER, "a rank of this team has gone");
}

/* The words of this turn; `half` of them are this turn's. */
static void say(const ptq_team *t, word (*words)[PTQ_TEAM_MAX], int half,
                int64_t index, int64_t end, ptq_status mine,
                const ptq_err *why) {
  word *own = &words[half][t->rank];
  own->index = index;
  own->end = end;
  own->code = (int32_t)mine;
  own->echo = mine == PTQ_E_PEER;
  (void)ptq_text_copy(own->text, sizeof own->text,
                      mine != PTQ_OK && why != NULL ? why->msg : "");
}

/* The failure of the lowest piece, and of members that only heard of one only
 * where there is no other. */
static ptq_status hear(const ptq_team *t, word (*words)[PTQ_TEAM_MAX], int half,
                       ptq_err *err) {
  const word *told = NULL;
  for (int i = 0; i < t->size; i++) {
    const word *w = &words[half][i];
    if (w->code == PTQ_OK) continue;
    if (told == NULL || (told->echo && !w->echo) ||
        (told->echo == w->echo && w->index < told->index))
      told = w;
  }
  if (told == NULL) return PTQ_OK;
  return PTQ_FAIL(err, (ptq_status)told->code, "%s", told->text);
}

/* Where this member came last it opens the gate. */
static bool arrive(gate *g, int size, int passed) {
  if (atomic_fetch_add(&g->arrived, 1) + 1 < size) return false;
  atomic_store(&g->arrived, 0);
  atomic_store(&g->passed, passed + 1);
  return true;
}

ptq_status ptq_team_settle(ptq_team *t, int64_t index, int64_t end,
                           ptq_status mine, const ptq_err *why, ptq_err *err) {
  common *c = t->c;
  const int passed = atomic_load(&c->inner.passed);
  int64_t naps = 0;
  say(t, c->inner_word, passed & 1, index, end, mine, why);
  if (!arrive(&c->inner, t->size, passed))
    while (atomic_load(&c->inner.passed) == passed) {
      if (atomic_load(&c->broken)) return is_broken(err);
      if (ptq_team_nap(t, &naps) && atomic_load(&c->inner.passed) == passed)
        return PTQ_FAIL(err, PTQ_E_PEER, "another rank of this team failed");
    }
  return hear(t, c->inner_word, passed & 1, err);
}

ptq_status ptq_team_meet(ptq_team *t, ptq_err *err) {
  return t == NULL ? PTQ_OK : ptq_team_settle(t, 0, 0, PTQ_OK, NULL, err);
}

ptq_status ptq_team_agree(ptq_team *t, ptq_status mine, ptq_err *err) {
  if (t == NULL) return mine;
  common *c = t->c;
  const int passed = atomic_load(&c->outer.passed);
  const ptq_err own = err != NULL && mine != PTQ_OK ? *err : (ptq_err){0};
  int64_t naps = 0;
  say(t, c->outer_word, passed & 1, 0, 0, mine, &own);
  if (mine != PTQ_OK) atomic_store(&c->abandoned, 1);
  if (atomic_load(&c->broken)) return is_broken(err);
  if (atomic_fetch_add(&c->outer.arrived, 1) + 1 == t->size) {
    /* Nobody is anywhere else: the inner gate starts over. */
    atomic_store(&c->inner.arrived, 0);
    atomic_store(&c->abandoned, 0);
    atomic_store(&c->outer.arrived, 0);
    atomic_store(&c->outer.passed, passed + 1);
  }
  while (atomic_load(&c->outer.passed) == passed) {
    if (atomic_load(&c->broken)) return is_broken(err);
    nap(t, &naps);
  }
  ptq_err told = {0};
  const ptq_status rc = hear(t, c->outer_word, passed & 1, &told);
  if (rc == PTQ_OK || err == NULL) return rc;
  *err = told;
  return rc;
}

/* --- Joining ------------------------------------------------------------ */

ptq_status ptq_team_open(int rank, int size, const int64_t *pids, int64_t *what,
                         ptq_team **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_team *t = NULL;
  PTQ_ASSERT(size > 0 && size <= PTQ_TEAM_MAX && rank >= 0 && rank < size);
  *out = NULL;
  PTQ_TRY(ptq_alloc(&t, 1, sizeof *t, "a team", err));
  t->fd = -1;
  t->rank = rank;
  t->size = size;
  memcpy(t->pids, pids, (size_t)size * sizeof *pids);
  const int fd =
      rank == 0 ? make_file((int64_t)sizeof *t->c) : open_file(t, *what);
  t->c = fd >= 0 ? map_file(fd, (int64_t)sizeof *t->c) : NULL;
  if (t->c == NULL) PTQ_TRY(no_memory((int64_t)sizeof *t->c, "a team", err));
  if (rank == 0)
    *what = t->fd = fd; /* the others come through it: it stays open */
  else
    (void)close(fd);
  *out = t;
  t = NULL;
done:
  ptq_free(t);
  return rc;
}

void ptq_team_close(ptq_team *t) {
  if (t == NULL) return;
  atomic_store(&t->c->broken, 1);
  for (int64_t i = 0; i < t->n_maps; i++)
    if (t->maps[i].at != NULL) (void)munmap(t->maps[i].at, t->maps[i].bytes);
  (void)munmap(t->c, sizeof *t->c);
  if (t->fd >= 0) (void)close(t->fd);
  ptq_free(t->maps);
  ptq_free(t);
}

/* --- Memory ------------------------------------------------------------- */

static mapping *free_mapping(ptq_team *t, ptq_err *err) {
  for (int64_t i = 0; i < t->n_maps; i++)
    if (t->maps[i].at == NULL) return &t->maps[i];
  const int64_t n = t->n_maps;
  if (ptq_grow(&t->maps, n, 2 * n + 16, sizeof *t->maps, "shared memory",
               err) != PTQ_OK)
    return NULL;
  t->n_maps = 2 * n + 16;
  return &t->maps[n];
}

/* The leader's file, by its number, to all. */
static ptq_status tell_file(ptq_team *t, int64_t *fd, int64_t bytes,
                            const char *what, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (ptq_team_leads(t)) {
    *fd = make_file(bytes);
    if (*fd < 0) rc = no_memory(bytes, what, err);
  }
  const ptq_err why = err != NULL ? *err : (ptq_err){0};
  rc = ptq_team_settle(t, 0, 0, rc, &why, err);
  if (rc != PTQ_OK) return rc;
  int64_t number = ptq_team_leads(t) ? *fd : 0;
  rc = ptq_team_sum(t, &number, 1, err);
  if (rc != PTQ_OK || ptq_team_leads(t)) return rc;
  *fd = open_file(t, number);
  return PTQ_OK;
}

ptq_status ptq_team_alloc(ptq_team *t, void *out, int64_t n, size_t size,
                          const char *what, ptq_err *err) {
  if (t == NULL) return ptq_alloc(out, n, size, what, err);
  ptq_status rc = PTQ_OK;
  void *at = NULL;
  int64_t fd = -1;
  memcpy(out, &at, sizeof at);
  PTQ_ASSERT(n >= 0 && (size_t)n < SIZE_MAX / 2 / size);
  const int64_t bytes = n > 0 ? n * (int64_t)size : 1;
  PTQ_TRY(tell_file(t, &fd, bytes, what, err));
  mapping *m = free_mapping(t, err);
  if (m == NULL) rc = PTQ_E_NOMEM;
  if (rc == PTQ_OK && fd >= 0) at = map_file((int)fd, bytes);
  if (rc == PTQ_OK && at == NULL) rc = no_memory(bytes, what, err);
  if (at != NULL) *m = (mapping){at, (size_t)bytes};
  const ptq_err why = err != NULL ? *err : (ptq_err){0};
  rc = ptq_team_settle(t, 0, 0, rc, &why, err);
  if (rc != PTQ_OK) {
    ptq_team_free(t, at);
    at = NULL;
  }
  memcpy(out, &at, sizeof at);
done:
  if (fd >= 0) (void)close((int)fd);
  return rc;
}

void ptq_team_free(ptq_team *t, void *block) {
  if (t == NULL) {
    ptq_free(block);
    return;
  }
  if (block == NULL) return;
  int64_t i = 0;
  while (i < t->n_maps && t->maps[i].at != block) i++;
  PTQ_ASSERT(i < t->n_maps);
  (void)munmap(block, t->maps[i].bytes);
  t->maps[i] = (mapping){0};
}

ptq_status ptq_team_turns_room(ptq_team *t, int64_t bytes, char **out,
                               ptq_err *err) {
  if (bytes > t->turns_bytes) {
    ptq_team_free(t, t->turns);
    t->turns_bytes = 0;
    const ptq_status rc =
        ptq_team_alloc(t, &t->turns, 2 * bytes, 1, "turns of a team", err);
    if (rc != PTQ_OK) return rc;
    t->turns_bytes = 2 * bytes;
  }
  *out = t->turns;
  return PTQ_OK;
}

/* --- Going round -------------------------------------------------------- */

static size_t least(size_t a, size_t b) {
  return a < b ? a : b;
}

/* Bytes [from, to) of items whose tiles, each `span` bytes, go round: own ones
 * to the stage, the others' from it. */
static void move(const ptq_team *t, char *items, char *stage, size_t from,
                 size_t to, size_t span, bool own) {
  for (size_t at = from; at < to;) {
    const size_t tile = at / span, end = least((tile + 1) * span, to);
    const bool mine = ptq_team_owns(t, (int64_t)tile);
    if (own && mine) memcpy(stage + (at - from), items + at, end - at);
    if (!own && !mine) memcpy(items + at, stage + (at - from), end - at);
    at = end;
  }
}

ptq_status ptq_team_share(ptq_team *t, void *items, int64_t n, size_t bytes,
                          int64_t tile, ptq_err *err) {
  const size_t all = (size_t)n * bytes, span = (size_t)tile * bytes;
  if (t == NULL) return PTQ_OK;
  /* Two halves in turns of the gate, which no failure of one member puts out
   * of step: whoever writes one again has met all that read it. */
  for (size_t from = 0; from < all; from += STAGE_BYTES) {
    char *stage = t->c->stage[atomic_load(&t->c->inner.passed) & 1];
    const size_t to = least(from + STAGE_BYTES, all);
    move(t, items, stage, from, to, span, true);
    const ptq_status rc = ptq_team_meet(t, err);
    if (rc != PTQ_OK) return rc;
    move(t, items, stage, from, to, span, false);
  }
  return PTQ_OK;
}

ptq_status ptq_team_sum(ptq_team *t, int64_t *values, int64_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t *all = NULL;
  if (t == NULL) return PTQ_OK;
  PTQ_TRY(ptq_alloc(&all, t->size * n, sizeof *all, "sums of a team", err));
  memcpy(all + t->rank * n, values, (size_t)n * sizeof *values);
  PTQ_TRY(ptq_team_share(t, all, t->size * n, sizeof *all, n, err));
  memset(values, 0, (size_t)n * sizeof *values);
  for (int64_t i = 0; i < t->size * n; i++) values[i % n] += all[i];
done:
  ptq_free(all);
  return rc;
}
