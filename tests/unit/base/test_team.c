/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ptq/base/team.h"

enum { MEMBERS = 3, PIECES = 41, PLACES = 4, DEADLINE_S = 60 };

/* What each member does; its exit status. */
typedef int member_fn(ptq_team *t);

#define CHECK(expr)                                                \
  do {                                                             \
    if (!(expr)) {                                                 \
      fprintf(stderr, "member %d: %s\n", ptq_team_rank(t), #expr); \
      return 1;                                                    \
    }                                                              \
  } while (0)

/* Waits to be told of all. */
static _Noreturn void be_member(int rank, const int *go, member_fn *fn) {
  ptq_team *t = NULL;
  int64_t all[MEMBERS + 1];
  (void)alarm(DEADLINE_S);
  if (read(go[0], all, sizeof all) != (ssize_t)sizeof all) _exit(2);
  if (ptq_team_open(rank, MEMBERS, all, &all[MEMBERS], &t, NULL) != PTQ_OK)
    _exit(3);
  const int status = fn(t);
  if (status == 0) (void)ptq_team_agree(t, PTQ_OK, NULL);
  ptq_team_close(t);
  _exit(status);
}

/* The test is the leader, and forks the others; `expected` of each. */
static void run_team(member_fn *fn, const int *expected) {
  int64_t all[MEMBERS + 1] = {getpid()};
  int go[MEMBERS][2], status = 0;
  ptq_team *t = NULL;
  fflush(NULL);
  for (int i = 1; i < MEMBERS; i++) {
    assert_int_equal(pipe(go[i]), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) be_member(i, go[i], fn);
    all[i] = pid;
  }
  assert_int_equal(ptq_team_open(0, MEMBERS, all, &all[MEMBERS], &t, NULL),
                   PTQ_OK);
  for (int i = 1; i < MEMBERS; i++)
    assert_int_equal(write(go[i][1], all, sizeof all), sizeof all);
  const int own = fn(t);
  if (own == 0) (void)ptq_team_agree(t, PTQ_OK, NULL);
  ptq_team_close(t);
  for (int i = 1; i < MEMBERS; i++) {
    assert_int_equal(waitpid((pid_t)all[i], &status, 0), (pid_t)all[i]);
    if (expected[i] >= 0)
      assert_int_equal(WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                       expected[i]);
    (void)close(go[i][0]);
    (void)close(go[i][1]);
  }
  assert_int_equal(own, expected[0]);
}

static const int all_well[MEMBERS] = {0};

typedef struct work {
  ptq_team *t;
  int64_t (*at)[PIECES]; /* shared; [PLACES] the pieces in their turns */
  int64_t *n;            /* shared; [PLACES] */
  int64_t leaves_out;    /* piece that takes no turn at place 2 */
  int64_t bad_from;      /* pieces from here on fail before place 2 */
  int64_t ran;           /* own pieces */
} work;

static void dawdle(int64_t index) {
  const struct timespec t = {.tv_nsec = index % 5 == 0 ? 400000 : 10000};
  (void)nanosleep(&t, NULL);
}

static ptq_status piece(void *ctx, int hand, int64_t index, ptq_order *order,
                        ptq_err *err) {
  work *w = ctx;
  ptq_status rc = PTQ_OK;
  (void)hand;
  for (int64_t place = 0; place < PLACES; place++) {
    dawdle(index + place);
    if (place == 2 && index == w->leaves_out) continue;
    if (place == 2 && index >= w->bad_from)
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC, "piece %d", (int)index));
    PTQ_TRY(ptq_order_wait(order, place, index, err));
    w->at[place][w->n[place]++] = index;
    ptq_order_pass(order, place, index);
  }
done:
  return rc;
}

static int open_work(work *w, ptq_team *t) {
  *w = (work){.t = t, .leaves_out = -1, .bad_from = PIECES};
  CHECK(ptq_team_alloc(t, &w->at, PLACES, sizeof *w->at, "at", NULL) == PTQ_OK);
  CHECK(ptq_team_alloc(t, &w->n, PLACES, sizeof *w->n, "n", NULL) == PTQ_OK);
  return 0;
}

static int in_turns(ptq_team *t) {
  for (int threads = 1; threads <= 3; threads++)
    for (int64_t first = 0; first < 3; first++) {
      work w;
      CHECK(open_work(&w, t) == 0);
      w.leaves_out = first == 1 ? 17 : -1;
      CHECK(ptq_team_run_ordered(t, threads, first, PIECES, PLACES, piece, &w,
                                 NULL) == PTQ_OK);
      for (int place = 0; place < PLACES; place++) {
        int64_t at = 0;
        for (int64_t i = first; i < PIECES; i++)
          if (place != 2 || i != w.leaves_out) CHECK(w.at[place][at++] == i);
        CHECK(w.n[place] == at);
      }
      CHECK(ptq_team_meet(t, NULL) == PTQ_OK);
      ptq_team_free(t, w.at);
      ptq_team_free(t, w.n);
    }
  return 0;
}

static void pieces_take_their_turns_over_members_and_threads(void **state) {
  (void)state;
  run_team(in_turns, all_well);
}

static int failing(ptq_team *t) {
  work w;
  ptq_err err = {0};
  CHECK(open_work(&w, t) == 0);
  w.bad_from = 23;
  CHECK(ptq_team_run_ordered(t, 2, 0, PIECES, PLACES, piece, &w, &err) ==
        PTQ_E_NUMERIC);
  CHECK(strcmp(err.msg, "piece 23") == 0);
  CHECK(w.n[2] == 23 && w.n[3] == 23);
  /* And the next goes well. */
  CHECK(ptq_team_agree(t, PTQ_E_NUMERIC, &err) == PTQ_E_NUMERIC);
  memset(w.n, 0, PLACES * sizeof *w.n);
  w.bad_from = PIECES;
  CHECK(ptq_team_run_ordered(t, 2, 0, PIECES, PLACES, piece, &w, NULL) ==
        PTQ_OK);
  CHECK(w.n[3] == PIECES);
  return 0;
}

static void the_lowest_failure_is_told_to_all(void **state) {
  (void)state;
  run_team(failing, all_well);
}

static int sharing(ptq_team *t) {
  enum { N = 700001 }; /* goes round in more than one piece */
  const int me = ptq_team_rank(t);
  int32_t *x = calloc(N, 3 * sizeof *x);
  int64_t sums[2] = {me + 1, 10};
  CHECK(x != NULL);
  for (int64_t tile = 1; tile <= 64; tile *= 8) {
    for (int64_t i = 0; i < N; i++)
      for (int k = 0; k < 3; k++)
        x[3 * i + k] = ptq_team_owns(t, i / tile) ? (int32_t)(i * 3 + k) : -1;
    CHECK(ptq_team_share(t, x, N, 3 * sizeof *x, tile, NULL) == PTQ_OK);
    for (int64_t i = 0; i < 3 * N; i++) CHECK(x[i] == (int32_t)i);
  }
  free(x);
  CHECK(ptq_team_sum(t, sums, 2, NULL) == PTQ_OK);
  CHECK(sums[0] == MEMBERS * (MEMBERS + 1) / 2 && sums[1] == 10 * MEMBERS);
  CHECK(ptq_team_share(t, NULL, 0, 8, 1, NULL) == PTQ_OK);
  return 0;
}

static void items_and_sums_come_to_all(void **state) {
  (void)state;
  run_team(sharing, all_well);
}

/* Member 1 has a failure of its own while the others wait elsewhere. */
static int abandoning(ptq_team *t) {
  for (int round = 0; round < 50; round++) {
    ptq_err err = {0};
    ptq_status rc = PTQ_OK;
    int64_t value = 1;
    if (round % 2 == 0 && ptq_team_rank(t) == 1)
      rc = PTQ_FAIL(&err, PTQ_E_NOMEM, "no room in round %d", round);
    else
      rc = ptq_team_sum(t, &value, 1, &err);
    rc = ptq_team_agree(t, rc, &err);
    CHECK(rc == (round % 2 == 0 ? PTQ_E_NOMEM : PTQ_OK));
    CHECK(round % 2 != 0 || strncmp(err.msg, "no room in round", 16) == 0);
    CHECK(round % 2 == 0 || value == MEMBERS);
  }
  return 0;
}

static void a_members_own_failure_ends_the_others_waiting(void **state) {
  (void)state;
  run_team(abandoning, all_well);
}

static int dying(ptq_team *t) {
  ptq_err err = {0};
  int64_t value = 1;
  CHECK(ptq_team_sum(t, &value, 1, NULL) == PTQ_OK);
  if (ptq_team_rank(t) == 2) (void)raise(SIGKILL);
  const ptq_status rc = ptq_team_sum(t, &value, 1, &err);
  CHECK(rc == PTQ_E_PEER);
  CHECK(ptq_team_broken(t));
  CHECK(ptq_team_agree(t, rc, &err) == PTQ_E_PEER);
  return 0;
}

/* A zombie counts as alive: the kernel reaps at once what nobody waits for. */
static void a_members_death_ends_all_waiting(void **state) {
  (void)state;
  int status = 0;
  fflush(NULL);
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    const struct sigaction reap = {.sa_handler = SIG_DFL,
                                   .sa_flags = SA_NOCLDWAIT};
    int64_t all[MEMBERS + 1] = {getpid()};
    int go[MEMBERS][2];
    ptq_team *t = NULL;
    (void)alarm(DEADLINE_S);
    (void)sigaction(SIGCHLD, &reap, NULL);
    for (int i = 1; i < MEMBERS; i++) {
      if (pipe(go[i]) != 0) _exit(9);
      all[i] = fork();
      if (all[i] == 0) be_member(i, go[i], dying);
    }
    if (ptq_team_open(0, MEMBERS, all, &all[MEMBERS], &t, NULL) != PTQ_OK)
      _exit(8);
    for (int i = 1; i < MEMBERS; i++)
      if (write(go[i][1], all, sizeof all) != (ssize_t)sizeof all) _exit(7);
    const int own = dying(t);
    ptq_team_close(t);
    _exit(own);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

static int leaving(ptq_team *t) {
  ptq_err err = {0};
  CHECK(ptq_team_meet(t, &err) == PTQ_OK);
  if (ptq_team_rank(t) == 1) return 5; /* closes without a word */
  CHECK(ptq_team_meet(t, &err) == PTQ_E_PEER);
  return 4;
}

static void a_member_that_leaves_ends_all_waiting(void **state) {
  (void)state;
  const int expected[MEMBERS] = {4, 5, 4};
  run_team(leaving, expected);
}

static void without_a_team_one_rank_does_all(void **state) {
  (void)state;
  int64_t value = 7, *block = NULL;
  ptq_err err = {0};
  assert_int_equal(ptq_team_size(NULL), 1);
  assert_true(ptq_team_leads(NULL) && ptq_team_owns(NULL, 5));
  assert_false(ptq_team_broken(NULL));
  assert_int_equal(ptq_team_sum(NULL, &value, 1, NULL), PTQ_OK);
  assert_int_equal(value, 7);
  assert_int_equal(ptq_team_alloc(NULL, &block, 3, sizeof *block, "x", NULL),
                   PTQ_OK);
  assert_int_equal(block[2], 0);
  ptq_team_free(NULL, block);
  (void)PTQ_FAIL(&err, PTQ_E_IO, "mine");
  assert_int_equal(ptq_team_agree(NULL, PTQ_E_IO, &err), PTQ_E_IO);
  assert_string_equal(err.msg, "mine");
  ptq_team_close(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(without_a_team_one_rank_does_all),
      cmocka_unit_test(pieces_take_their_turns_over_members_and_threads),
      cmocka_unit_test(the_lowest_failure_is_told_to_all),
      cmocka_unit_test(items_and_sums_come_to_all),
      cmocka_unit_test(a_members_own_failure_ends_the_others_waiting),
      cmocka_unit_test(a_members_death_ends_all_waiting),
      cmocka_unit_test(a_member_that_leaves_ends_all_waiting),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
