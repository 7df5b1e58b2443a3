/* What a training process written in C does; nothing of Slackline runs around it, so every call succeeds. */
#include <slackline.h>
#include <stdio.h>

int main(void) {
  slackline_session* session;
  int faults = slackline_open(0, 2, &session) != SLACKLINE_OK;
  faults += slackline_step_begin(session) != SLACKLINE_OK;
  faults += slackline_instruction_begin(session, SLACKLINE_FORWARD, 0) != SLACKLINE_OK;
  faults += slackline_instruction_end(session) != SLACKLINE_OK;
  faults += slackline_step_end(session) != SLACKLINE_OK;
  if (faults != 0) fprintf(stderr, "%d calls failed: %s\n", faults, slackline_message(session));
  slackline_close(session);
  return faults != 0;
}
