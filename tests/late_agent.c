/* Preloaded into `apply`: its agent is slow to leave the process group, as on a loaded machine. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

pid_t setsid(void) {
  pid_t (*next)(void) = (pid_t (*)(void))dlsym(RTLD_NEXT, "setsid");
  usleep(500 * 1000);
  return next();
}
