/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "peer.h"
#include "signals.h"

#include "ptq/dist/run.h"

static void the_end_of_a_process_of_this_host_is_seen(void **state) {
  (void)state;
  ptq_peer self, other;
  ptq_peer_self(&self);
  assert_int_equal(self.pid, getpid());
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  other = self;
  other.pid = (int64_t)child;
  assert_true(ptq_peer_watchable(&self, &other));
  assert_false(ptq_peer_gone(&other));
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  assert_true(ptq_peer_gone(&other));
  assert_true(ptq_peer_watchable(&self, &other)); /* its death can be seen */
}

static void processes_of_other_or_unknown_hosts_are_not_watched(void **state) {
  (void)state;
  ptq_peer self, other;
  ptq_peer_self(&self);
  other = self;
  other.host[0] ^= 1;
  assert_false(ptq_peer_watchable(&self, &other));
  memset(other.host, 0, sizeof other.host);
  assert_false(ptq_peer_watchable(&other, &other));
}

static void the_three_signals_are_counted_alike(void **state) {
  (void)state;
  ptq_signals_forget();
  ptq_dist_catch_signals();
  assert_false(ptq_dist_signalled());
  raise(SIGTERM);
  raise(SIGUSR1);
  raise(SIGUSR2);
  assert_int_equal(ptq_signals_seen(), 3);
  assert_true(ptq_dist_signalled());
  ptq_signals_forget();
  assert_false(ptq_dist_signalled());
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_end_of_a_process_of_this_host_is_seen),
      cmocka_unit_test(processes_of_other_or_unknown_hosts_are_not_watched),
      cmocka_unit_test(the_three_signals_are_counted_alike),
  };
  return cmocka_run_group_tests_name("dist/peer", tests, NULL, NULL);
}
