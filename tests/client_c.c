/* A trainer in C. Without anybody who owns the clocks every call does nothing and succeeds; only a call that
 * is wrong in itself says so. */
#include <stdio.h>
#include <string.h>

#include "slackline.h"
#include "slackline_sim.h"

static int failures = 0;

static void expect(int holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "client_c: %s\n", what);
  ++failures;
}
#define EXPECT(condition) expect((condition), #condition)

static void train(slackline_session* session) {
  for (int step = 0; step < 3; ++step) {
    EXPECT(slackline_step_begin(session) == SLACKLINE_OK);
    for (int microbatch = 0; microbatch < 4; ++microbatch) {
      for (int kind = SLACKLINE_FORWARD; kind <= SLACKLINE_FORWARD_BACKWARD; ++kind) {
        slackline_sim_wait_begin(session, 7);
        slackline_sim_wait_end(session, 7);
        EXPECT(slackline_instruction_begin(session, kind, microbatch - 1) == SLACKLINE_OK);
        EXPECT(slackline_instruction_again(session) == 0);
        EXPECT(slackline_instruction_took(session, 0.01) == SLACKLINE_OK);
        EXPECT(slackline_instruction_end(session) == SLACKLINE_OK);
        slackline_sim_send(session, 8);
      }
    }
    EXPECT(slackline_step_end(session) == SLACKLINE_OK);
  }
  EXPECT(slackline_is_simulated(session) == 0);
}

int main(void) {
  slackline_session* session = NULL;
  EXPECT(slackline_open(1, 4, &session) == SLACKLINE_OK);
  EXPECT(session != NULL);
  train(session);
  EXPECT(slackline_step_begin(session) == SLACKLINE_OK); /* a second begin is as harmless */
  EXPECT(strcmp(slackline_message(session), "") == 0);
  EXPECT(slackline_instruction_begin(session, 7, 0) == SLACKLINE_EINVAL);
  slackline_close(session);

  session = NULL;
  EXPECT(slackline_instruction_took(session, -1) == SLACKLINE_EINVAL);
  EXPECT(slackline_open(4, 4, &session) == SLACKLINE_EINVAL);
  EXPECT(strcmp(slackline_message(session), "") != 0);
  train(session);
  slackline_close(session);

  EXPECT(slackline_open(0, 1, NULL) == SLACKLINE_EINVAL);
  EXPECT(slackline_step_begin(NULL) == SLACKLINE_EINVAL);
  EXPECT(slackline_step_end(NULL) == SLACKLINE_EINVAL);
  EXPECT(slackline_instruction_begin(NULL, SLACKLINE_FORWARD, 0) == SLACKLINE_EINVAL);
  EXPECT(slackline_instruction_end(NULL) == SLACKLINE_EINVAL);
  EXPECT(slackline_instruction_again(NULL) == 0);
  EXPECT(slackline_is_simulated(NULL) == 0);
  EXPECT(strcmp(slackline_message(NULL), "") == 0);
  slackline_sim_send(NULL, 1);
  slackline_sim_wait_begin(NULL, 1);
  slackline_sim_wait_end(NULL, 1);
  slackline_close(NULL);
  return failures == 0 ? 0 : 1;
}
