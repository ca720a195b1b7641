/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "args.h"
#include "commands.h"
#include "ptq/base/log.h"
#include "ptq/base/text.h"
#include "ptq/comm/startup.h"
#include "ptq/dist/run.h"

static int usage(FILE *to, int exit_code) {
  fprintf(to, "ptqsweep " PTQ_VERSION
              ": scaling laws of post-training quantized language models\n\n"
              "usage: ptqsweep COMMAND [ARGUMENTS]\n\n");
  for (int i = 0; ptq_commands[i] != NULL; i++)
    fprintf(to, "  %-12s %s\n", ptq_commands[i]->name,
            ptq_commands[i]->summary);
  fprintf(to,
          "\nptqsweep COMMAND --help tells more, with an example.\n"
          "Exit status: 0 done; 1 failed; 2 usage; 3 finished but some points "
          "failed;\n75 stopped early, the same command goes on.\n");
  return exit_code;
}

static void print_options(const ptq_option *o) {
  for (; o != NULL && o->name != NULL; o++) {
    char spelled[64];
    snprintf(spelled, sizeof spelled, "--%s%s%s", o->name,
             o->value != NULL ? " " : "", o->value != NULL ? o->value : "");
    fprintf(stdout, "  %c%c%c %-24s %s\n", o->letter ? '-' : ' ',
            o->letter ? o->letter : ' ', o->letter ? ',' : ' ', spelled,
            o->help);
  }
}

static int help(const ptq_command *c) {
  printf("usage: ptqsweep %s %s\n\n%s\nOptions:\n", c->name, c->args,
         c->details);
  print_options(c->options);
  print_options(ptq_common_options);
  return PTQ_EXIT_DONE;
}

static const ptq_command *find_command(const char *name) {
  for (int i = 0; ptq_commands[i] != NULL; i++)
    if (strcmp(ptq_commands[i]->name, name) == 0) return ptq_commands[i];
  return NULL;
}

static int unknown_command(const char *name) {
  const char *names[64];
  size_t n = 0;
  for (; ptq_commands[n] != NULL && n < 64; n++)
    names[n] = ptq_commands[n]->name;
  const char *near = ptq_text_nearest(name, names, n);
  fprintf(stderr, "ptqsweep: unknown command '%s'%s%s%s\n", name,
          near != NULL ? ", did you mean '" : "", near != NULL ? near : "",
          near != NULL ? "'?" : "");
  return usage(stderr, PTQ_EXIT_USAGE);
}

int ptq_command_failed(const char *name, ptq_status rc, const ptq_err *err) {
  /* A rank that only follows another's failure stays silent: the first cause
   * is printed once. */
  if (rc != PTQ_E_PEER)
    fprintf(stderr, "ptqsweep %s: %s (%s)\n", name, err->msg,
            ptq_status_str(rc));
  return rc == PTQ_E_STOPPED ? PTQ_EXIT_STOPPED : PTQ_EXIT_FAILED;
}

/* How long a rank may be silent or stopped; the command tells what is wrong
 * with it. */
static double silence_of(const ptq_args *args) {
  double seconds = PTQ_SILENCE_S;
  (void)ptq_args_double(args, "silence", seconds, &seconds, NULL);
  return seconds >= 1.0 ? seconds : PTQ_SILENCE_S;
}

static int run_command(const ptq_command *c, const ptq_args *args) {
  ptq_err err = {0};
  int exit_code = PTQ_EXIT_DONE, finalized = 0, provided = 0;
  /* A stop that comes while MPI starts is a stop all the same. */
  if (c->needs_mpi) {
    ptq_dist_catch_signals();
    ptq_startup_begin(silence_of(args));
  }
  /* Threads compute; this one alone speaks to other ranks. */
  if (c->needs_mpi && MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED,
                                      &provided) != MPI_SUCCESS) {
    fprintf(stderr, "ptqsweep %s: MPI_Init failed\n", c->name);
    return PTQ_EXIT_FAILED;
  }
  if (c->needs_mpi) ptq_startup_mpi_runs();
  const ptq_status rc = c->run(args, &exit_code, &err);
  ptq_startup_end();
  if (rc != PTQ_OK) {
    const int failed = ptq_command_failed(c->name, rc, &err);
    if (exit_code != PTQ_EXIT_USAGE) exit_code = failed;
  }
  if (c->needs_mpi && MPI_Finalized(&finalized) == MPI_SUCCESS && !finalized)
    MPI_Finalize();
  return exit_code;
}

static int program(int argc, char **argv) {
  if (argc < 2) return usage(stderr, PTQ_EXIT_USAGE);
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
    return usage(stdout, PTQ_EXIT_DONE);
  if (strcmp(argv[1], "--version") == 0) {
    printf("ptqsweep " PTQ_VERSION "\n");
    return PTQ_EXIT_DONE;
  }
  const ptq_command *c = find_command(argv[1]);
  if (c == NULL) return unknown_command(argv[1]);
  ptq_args args;
  ptq_err err = {0};
  if (ptq_args_parse(c, argc - 2, argv + 2, &args, &err) != PTQ_OK) {
    fprintf(stderr, "ptqsweep %s: %s\n", c->name, err.msg);
    return PTQ_EXIT_USAGE;
  }
  if (ptq_args_has(&args, "help")) return help(c);
  if (ptq_args_has(&args, "quiet")) ptq_log_set_level(PTQ_LOG_WARN);
  if (ptq_args_has(&args, "verbose")) ptq_log_set_level(PTQ_LOG_DEBUG);
  return run_command(c, &args);
}

int main(int argc, char **argv) {
  /* A file size limit is an error of a write, not a death. */
  (void)signal(SIGXFSZ, SIG_IGN);
  int exit_code = program(argc, argv);
  errno = 0;
  const int lost = fflush(stdout) != 0 || ferror(stdout);
  if (lost && exit_code == PTQ_EXIT_DONE) {
    fprintf(stderr, "ptqsweep: cannot write standard output: %s\n",
            errno != 0 ? strerror(errno) : "an earlier write failed");
    exit_code = PTQ_EXIT_FAILED;
  }
  ptq_dist_ended_early(exit_code);
  return exit_code;
}
