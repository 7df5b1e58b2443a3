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
 * The first step runs at the baseline: what it runs must be what the schedule lists, in that order. Steps
 * without slackline_step_begin (evaluation) follow no schedule.
 *
 * Calls on one session must come one after the other. Instructions must have finished on the GPU when
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
  SLACKLINE_BACKWARD = 1,         /* both gradients: of the input and of the weights */
  SLACKLINE_BACKWARD_INPUT = 2,   /* only the gradient that the stage before waits for */
  SLACKLINE_BACKWARD_WEIGHT = 3,  /* only the gradient that nobody waits for */
  SLACKLINE_RECOMPUTE = 4,        /* the activations anew, before a backward */
  SLACKLINE_FORWARD_BACKWARD = 5, /* recompute and backward in one */
  SLACKLINE_OVERLAPPED = 6 /* a forward and the backward of another microbatch; goes by the forward's stage */
};

enum {
  SLACKLINE_OK = 0,
  SLACKLINE_EINVAL = 1,   /* a null session or a number out of range */
  SLACKLINE_EREFUSED = 2, /* whoever owns the clocks refused this process */
  SLACKLINE_ESEQUENCE = 3 /* the job does not run the instructions that the schedule lists */
};

/* A process's place in a job. A pipeline's ranks are the rows of its order: GPUs that work in lockstep and
 * hold one stage of the model, or several. Pipelines are replicas (data parallelism); lanes are the processes
 * of a rank, each with its own GPUs (tensor parallelism). All count from 0. */
typedef struct slackline_place {
  int rank, ranks;
  int pipeline, pipelines;
  int lane, lanes;
  const char* gpu; /* UUID of the GPU that this process drives; null: its place decides */
} slackline_place;

/* Joins the job. Always sets *session. */
SLACKLINE_API int slackline_join(const slackline_place* place, slackline_session** session);
/* The same for a job of one pipeline, with one process and one stage a rank: it drives all GPUs of `stage`.
 */
SLACKLINE_API int slackline_open(int stage, int stages, slackline_session** session);
SLACKLINE_API void slackline_close(slackline_session* session);

SLACKLINE_API int slackline_step_begin(slackline_session* session);
SLACKLINE_API int slackline_step_end(slackline_session* session);

/* `microbatch` counts from 0 in each step; -1 if the caller does not know it. Where a rank has several
 * stages, it says which: `stage` counts from 0 in the whole model; -1 if it has only one. */
SLACKLINE_API int slackline_instruction_begin(slackline_session* session, int kind, int microbatch);
SLACKLINE_API int slackline_instruction_begin_on(slackline_session* session, int kind, int stage,
                                                 int microbatch);
SLACKLINE_API int slackline_instruction_end(slackline_session* session);
/* What the device's own events measured for the instruction under way, in seconds: a better time than the one
 * between begin and end, where the framework knows it. Call it before slackline_instruction_end. */
SLACKLINE_API int slackline_instruction_took(slackline_session* session, double seconds);
/* 1 if the instruction should run once more because it is being profiled, else 0. Call it after each run,
 * before slackline_instruction_end. A job that cannot repeat an instruction leaves it out, and cannot be
 * profiled by repetition. */
SLACKLINE_API int slackline_instruction_again(slackline_session* session);

/* What the schedule lists for this rank; 0 instructions without one. */
SLACKLINE_API int slackline_order_length(const slackline_session* session);
SLACKLINE_API int slackline_order_entry(const slackline_session* session, int index, int* kind, int* stage,
                                        int* microbatch);
/* The plan that the step under way follows, from 0; -1: none, the GPUs are at their baseline. */
SLACKLINE_API int slackline_plan(const slackline_session* session);

/* Stragglers, in jobs of several pipelines: while `pipeline` (-1: something that all wait for) takes
 * `slowdown` times as long as it should, the others follow a plan that ends as late, from their next step on;
 * 1 ends it. Known to all processes of this node. */
SLACKLINE_API int slackline_set_straggler(slackline_session* session, int pipeline, double slowdown);
SLACKLINE_API double slackline_straggler(slackline_session* session, int pipeline);
/* How often `slackline straggler` has told this job something. */
SLACKLINE_API unsigned slackline_notices(slackline_session* session);

/* A job on several nodes carries that itself, and lets the ranks of a pipeline agree: where slackline_agrees,
 * its rank 0 asks for the best plan before each step, and all of them begin the step with it. */
SLACKLINE_API int slackline_agrees(slackline_session* session);
SLACKLINE_API int slackline_best_plan(slackline_session* session);
SLACKLINE_API int slackline_step_begin_with(slackline_session* session, int plan);

/* What went wrong last, or "". Lives as long as the session. */
SLACKLINE_API const char* slackline_message(const slackline_session* session);

#ifdef __cplusplus
}
#endif
#endif
