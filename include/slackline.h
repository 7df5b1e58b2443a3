/* Slackline's client: what a training process calls so that its GPUs follow a frequency schedule.
 *
 *   slackline_session* session;
 *   slackline_open(stage, stages, &session);                    // once a process
 *   for (each iteration) {
 *     slackline_step_begin(session);
 *     for (each instruction of this stage, in the order of the schedule) {
 *       receive_input();                                        // waiting stays outside of begin and end
 *       slackline_instruction_begin(session, SLACKLINE_FORWARD, microbatch);
 *       do run_forward(); while (slackline_instruction_again(session));
 *       slackline_instruction_end(session);
 *       send_output();
 *     }
 *     slackline_step_end(session);
 *   }
 *   slackline_close(session);
 *
 * The clock of the next instruction is requested when one ends, so that the switch hides behind waiting; at
 * the end of a step the GPUs go back to their baseline. Training never depends on Slackline: without
 * `slackline apply` or `slackline profile` around it, or when either dies, every call does nothing and
 * succeeds.
 *
 * Calls on one session must come from one thread. Instructions must have finished on the GPU when
 * slackline_instruction_end is called (synchronize first). Return values: 0, or a SLACKLINE_E... constant, in
 * which case slackline_message says why; the session then stays usable but the GPUs stay at their baseline.
 */
#ifndef SLACKLINE_H
#define SLACKLINE_H

#ifdef __cplusplus
extern "C" {
#endif

#define SLACKLINE_API __attribute__((visibility("default")))

typedef struct slackline_session slackline_session;

/* Kinds of instruction. */
enum {
  SLACKLINE_FORWARD = 0,
  SLACKLINE_BACKWARD = 1,        /* both gradients: of the input and of the weights */
  SLACKLINE_BACKWARD_INPUT = 2,  /* only the gradient that the stage before waits for */
  SLACKLINE_BACKWARD_WEIGHT = 3, /* only the gradient that nobody waits for */
  SLACKLINE_RECOMPUTE = 4,       /* the activations anew, before a backward */
  SLACKLINE_FORWARD_BACKWARD = 5 /* recompute and backward in one */
};

enum {
  SLACKLINE_OK = 0,
  SLACKLINE_EINVAL = 1,   /* a null session or a number out of range */
  SLACKLINE_EREFUSED = 2, /* whoever owns the clocks refused this process */
  SLACKLINE_ESEQUENCE = 3 /* the job does not run the instructions that the schedule lists */
};

/* Joins the job as the process that drives all GPUs of `stage` (0 to stages-1). Always sets *session. */
SLACKLINE_API int slackline_open(int stage, int stages, slackline_session** session);
SLACKLINE_API void slackline_close(slackline_session* session);

SLACKLINE_API int slackline_step_begin(slackline_session* session);
SLACKLINE_API int slackline_step_end(slackline_session* session);

/* `microbatch` counts from 0 in each step; -1 if the caller does not know it. */
SLACKLINE_API int slackline_instruction_begin(slackline_session* session, int kind, int microbatch);
SLACKLINE_API int slackline_instruction_end(slackline_session* session);
/* What the device's own events measured for the instruction under way, in seconds: a better time than the one
 * between begin and end, where the framework knows it. Call it before slackline_instruction_end. */
SLACKLINE_API int slackline_instruction_took(slackline_session* session, double seconds);
/* 1 if the instruction should run once more because it is being profiled, else 0. Call it after each run,
 * before slackline_instruction_end. A job that cannot repeat an instruction leaves it out, and cannot be
 * profiled by repetition. */
SLACKLINE_API int slackline_instruction_again(slackline_session* session);

/* What went wrong last, or "". Lives as long as the session. */
SLACKLINE_API const char* slackline_message(const slackline_session* session);

#ifdef __cplusplus
}
#endif
#endif
