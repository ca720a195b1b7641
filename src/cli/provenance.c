/* SPDX-License-Identifier: GPL-3.0-or-later */
/* realpath is an X/Open extension of POSIX.1-2008. */
#define _XOPEN_SOURCE 700
#include "provenance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ptq/base/mem.h"
#include "ptq/comm/agree.h"
#include "ptq/comm/meet.h"

enum { HOST_BYTES = 64 };

#ifndef PTQ_BUILD
#define PTQ_BUILD "unknown flags"
#endif

/* Words as a shell would take them. */
static void add_word(ptq_text *t, const char *word) {
  const bool plain =
      word[0] != '\0' &&
      strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                   "0123456789_@%+=:,./-") == strlen(word);
  ptq_text_add(t, " ");
  if (plain) {
    ptq_text_add(t, word);
    return;
  }
  ptq_text_add(t, "'");
  for (; *word != '\0'; word++) {
    const char one[2] = {*word, '\0'};
    ptq_text_add(t, *word == '\'' ? "'\\''" : one);
  }
  ptq_text_add(t, "'");
}

static void add_libraries(ptq_text *t, const char *numerics) {
  char hdf5[64];
  char mpi[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  ptq_store_library(hdf5);
  (void)MPI_Get_library_version(mpi, &length);
  mpi[strcspn(mpi, ",\n")] = '\0'; /* name and version, not the rest */
  ptq_text_addf(t, "%s; %s; %s", numerics, hdf5, mpi);
}

/* "node1 x 64, node2 x 64", in the order of ranks; how many are of this. */
static ptq_status add_hosts(MPI_Comm comm, ptq_text *t, int *n_here,
                            ptq_err *err) {
  char mine[HOST_BYTES] = "unknown", *all = NULL;
  int rank = 0, size = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  if (gethostname(mine, sizeof mine - 1) != 0)
    (void)ptq_text_copy(mine, sizeof mine, "unknown");
  ptq_status rc = ptq_alloc(&all, size, HOST_BYTES, "host names", err);
  rc = ptq_agree(comm, rc, err);
  if (rc == PTQ_OK)
    rc = ptq_meet_allgather(comm, mine, HOST_BYTES, all, "host names", err);
  for (int i = 0; rc == PTQ_OK && i < size; i++)
    *n_here += strcmp(mine, all + (size_t)i * HOST_BYTES) == 0;
  for (int i = 0, n; rc == PTQ_OK && rank == 0 && i < size; i += n) {
    const char *host = all + (size_t)i * HOST_BYTES;
    for (n = 1;
         i + n < size && strcmp(host, all + (size_t)(i + n) * HOST_BYTES) == 0;
         n++) {
    }
    ptq_text_addf(t, "%s%s x %d", i > 0 ? ", " : "", host, n);
  }
  ptq_free(all);
  return rc;
}

ptq_status ptq_provenance_collect(MPI_Comm comm, const ptq_args *args,
                                  const char *spec_path, const char *numerics,
                                  ptq_provenance *out, ptq_err *err) {
  ptq_provenance *p = out;
  *p = (ptq_provenance){0};
  char *path = realpath(spec_path, NULL);
  ptq_text_add(&p->spec_path, path != NULL ? path : spec_path);
  free(path);
  ptq_text_add(&p->command_line, "ptqsweep run");
  for (int i = 0; i < args->argc; i++)
    add_word(&p->command_line, args->argv[i]);
  ptq_text_addf(&p->build, "ptqsweep %s, %s", PTQ_VERSION, PTQ_BUILD);
  add_libraries(&p->libraries, numerics);
  const ptq_status rc = add_hosts(comm, &p->hosts, &p->n_here, err);
  if (rc != PTQ_OK) return rc;
  const ptq_store_attribute attributes[] = {
      {"command_line", ptq_text_str(&p->command_line)},
      {"spec_path", ptq_text_str(&p->spec_path)},
      {"build", ptq_text_str(&p->build)},
      {"libraries", ptq_text_str(&p->libraries)},
      {"hosts", ptq_text_str(&p->hosts)}};
  for (; p->n < (int64_t)(sizeof attributes / sizeof attributes[0]); p->n++)
    p->attributes[p->n] = attributes[p->n];
  if (p->command_line.rc == PTQ_OK && p->spec_path.rc == PTQ_OK &&
      p->build.rc == PTQ_OK && p->libraries.rc == PTQ_OK &&
      p->hosts.rc == PTQ_OK)
    return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_NOMEM, "the run's description");
}

void ptq_provenance_release(ptq_provenance *p) {
  ptq_text_release(&p->command_line);
  ptq_text_release(&p->spec_path);
  ptq_text_release(&p->build);
  ptq_text_release(&p->libraries);
  ptq_text_release(&p->hosts);
  *p = (ptq_provenance){0};
}
