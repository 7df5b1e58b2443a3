/* What a job on simulated GPUs tells the simulator, beside the calls of slackline.h. Simulated time stands
 * still while any process of the job runs its own code; it advances when all of them compute on a simulated
 * GPU or wait for each other. So the simulator must hear of every message and every wait between them. On
 * anything but simulated GPUs in virtual time these calls do nothing. */
#ifndef SLACKLINE_SIM_H
#define SLACKLINE_SIM_H

#include "slackline.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A channel is one direction of one connection, numbered by the job; the same number at both ends. */
typedef unsigned long long slackline_channel;

/* 1 if this session runs on simulated GPUs. */
SLACKLINE_API int slackline_is_simulated(const slackline_session* session);

/* Call before a message is handed to the operating system. */
SLACKLINE_API void slackline_sim_send(slackline_session* session, slackline_channel channel);
/* Call before blocking until a message of `channel` is there, and after it was taken. */
SLACKLINE_API void slackline_sim_wait_begin(slackline_session* session, slackline_channel channel);
SLACKLINE_API void slackline_sim_wait_end(slackline_session* session, slackline_channel channel);

#ifdef __cplusplus
}
#endif
#endif
