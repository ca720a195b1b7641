/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/comm/agree.h"

#include <stdbool.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/comm/meet.h"

static const char agreement[] = "agreement of ranks";

/* The lowest rank whose `bad` is set, -1 if none. */
static ptq_status first_bad(MPI_Comm comm, bool bad, int *rank_out,
                            ptq_err *err) {
  int rank = 0, size = 0;
  *rank_out = -1;
  int code = MPI_Comm_rank(comm, &rank);
  if (code == MPI_SUCCESS) code = MPI_Comm_size(comm, &size);
  if (code != MPI_SUCCESS) return ptq_meet_failed(code, agreement, err);
  int first = bad ? rank : size;
  const ptq_status rc =
      ptq_meet_allreduce(comm, &first, 1, MPI_INT, MPI_MIN, agreement, err);
  if (rc == PTQ_OK && first < size) *rank_out = first;
  return rc;
}

ptq_status ptq_agree(MPI_Comm comm, ptq_status mine, ptq_err *err) {
  int first = -1, rank = 0;
  ptq_err ignored = {0};
  const ptq_status rc =
      first_bad(comm, mine != PTQ_OK, &first, mine != PTQ_OK ? &ignored : err);
  if (rc != PTQ_OK) return mine != PTQ_OK ? mine : rc;
  if (first < 0) return PTQ_OK;

  /* The cause travels to every rank, so that rank 0 can print it. */
  char cause[sizeof ignored.msg] = "";
  (void)MPI_Comm_rank(comm, &rank);
  if (rank == first)
    (void)ptq_text_copy(cause, sizeof cause,
                        err != NULL ? err->msg : ptq_status_str(mine));
  const ptq_status told =
      ptq_meet_bcast(comm, cause, (int64_t)sizeof cause, MPI_CHAR, first,
                     agreement, mine != PTQ_OK ? &ignored : err);
  if (mine != PTQ_OK) return mine;
  if (told != PTQ_OK) return told;
  return PTQ_FAIL(err, PTQ_E_PEER, "rank %d: %s", first, cause);
}

ptq_status ptq_agree_text(MPI_Comm comm, const char *text, const char *what,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *theirs = NULL;
  int rank = 0, first = -1;
  long long length = (long long)strlen(text);
  PTQ_TRY(ptq_meet_failed(MPI_Comm_rank(comm, &rank), what, err));
  PTQ_TRY(ptq_meet_bcast(comm, &length, 1, MPI_LONG_LONG, 0, what, err));
  rc = ptq_alloc(&theirs, length + 1, 1, what, err);
  PTQ_TRY(ptq_agree(comm, rc, err));
  if (rank == 0) memcpy(theirs, text, (size_t)length);
  PTQ_TRY(ptq_meet_bcast(comm, theirs, length, MPI_CHAR, 0, what, err));
  PTQ_TRY(first_bad(comm, strcmp(theirs, text) != 0, &first, err));
  if (first < 0) goto done;

  char other[160] = "";
  if (rank == first) (void)ptq_text_copy(other, sizeof other, text);
  PTQ_TRY(ptq_meet_bcast(comm, other, (int64_t)sizeof other, MPI_CHAR, first,
                         what, err));
  rc = PTQ_FAIL(err, PTQ_E_ARG,
                "ranks differ in %s: rank 0 has '%.160s', rank %d has '%s'",
                what, theirs, first, other);
done:
  ptq_free(theirs);
  return rc;
}
