#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "session.h"
#include "slackline.h"
#include "slackline_sim.h"

struct slackline_session {
  slackline::Session session;
};

namespace {

using slackline::InstructionKind;
static_assert(static_cast<int>(InstructionKind::kForward) == SLACKLINE_FORWARD);
static_assert(static_cast<int>(InstructionKind::kBackward) == SLACKLINE_BACKWARD);
static_assert(static_cast<int>(InstructionKind::kBackwardInput) == SLACKLINE_BACKWARD_INPUT);
static_assert(static_cast<int>(InstructionKind::kBackwardWeight) == SLACKLINE_BACKWARD_WEIGHT);
static_assert(static_cast<int>(InstructionKind::kRecompute) == SLACKLINE_RECOMPUTE);
static_assert(static_cast<int>(InstructionKind::kForwardBackward) == SLACKLINE_FORWARD_BACKWARD);

/// Training must not end because of us: nothing is thrown over the border, and what happens is said once on
/// stderr.
void say(slackline_session* session, std::string message) {
  session->session.message = std::move(message);
  std::fprintf(stderr, "slackline: %s\n", session->session.message.c_str());
}

int refuse(slackline_session* session, int status, std::string message) {
  say(session, std::move(message));
  return status;
}

[[gnu::cold]] int tell_news(slackline_session* session) {
  slackline::Session::News news = session->session.take_news();
  if (!news.notice.empty()) say(session, std::move(news.notice));
  return news.trouble.empty() ? SLACKLINE_OK : refuse(session, SLACKLINE_ESEQUENCE, std::move(news.trouble));
}

template <class Call>
int guarded(slackline_session* session, Call call) {
  if (session == nullptr) return SLACKLINE_EINVAL;
  try {
    call(session->session);
  } catch (const std::exception& error) {
    return refuse(session, SLACKLINE_EREFUSED, error.what());
  }
  return session->session.has_news() ? tell_news(session) : SLACKLINE_OK;
}

}  // namespace

extern "C" {

int slackline_open(int stage, int stages, slackline_session** session) {
  if (session == nullptr) return SLACKLINE_EINVAL;
  *session = new slackline_session;
  if (stage < 0 || stage >= stages) {
    return refuse(*session, SLACKLINE_EINVAL,
                  "stage " + std::to_string(stage) + " of " + std::to_string(stages) + " does not exist");
  }
  return guarded(*session, [&](slackline::Session& s) { s.open(stage, stages); });
}

void slackline_close(slackline_session* session) {
  delete session;
}

int slackline_step_begin(slackline_session* session) {
  return guarded(session, [](slackline::Session& s) { s.step_begin(); });
}

int slackline_step_end(slackline_session* session) {
  return guarded(session, [](slackline::Session& s) { s.step_end(); });
}

int slackline_instruction_begin(slackline_session* session, int kind, int microbatch) {
  if (kind < SLACKLINE_FORWARD || kind > SLACKLINE_FORWARD_BACKWARD) return SLACKLINE_EINVAL;
  return guarded(session, [&](slackline::Session& s) {
    s.instruction_begin(static_cast<InstructionKind>(kind), microbatch);
  });
}

int slackline_instruction_end(slackline_session* session) {
  return guarded(session, [](slackline::Session& s) { s.instruction_end(); });
}

int slackline_instruction_took(slackline_session* session, double seconds) {
  if (!(seconds >= 0) || seconds > 1e6) return SLACKLINE_EINVAL;
  return guarded(session, [&](slackline::Session& s) { s.instruction_took(slackline::Seconds(seconds)); });
}

int slackline_instruction_again(slackline_session* session) {
  bool again = false;
  guarded(session, [&](slackline::Session& s) { again = s.instruction_again(); });
  return again ? 1 : 0;
}

const char* slackline_message(const slackline_session* session) {
  return session == nullptr ? "" : session->session.message.c_str();
}

int slackline_is_simulated(const slackline_session* session) {
  return session != nullptr && const_cast<slackline_session*>(session)->session.world() != nullptr ? 1 : 0;
}

void slackline_sim_send(slackline_session* session, slackline_channel channel) {
  guarded(session, [&](slackline::Session& s) {
    if (s.world() != nullptr && s.world()->is_virtual()) s.world()->send(channel);
  });
}

void slackline_sim_wait_begin(slackline_session* session, slackline_channel channel) {
  guarded(session, [&](slackline::Session& s) {
    if (s.participant() != nullptr) s.participant()->wait_begin(channel);
  });
}

void slackline_sim_wait_end(slackline_session* session, slackline_channel channel) {
  guarded(session, [&](slackline::Session& s) {
    if (s.participant() != nullptr) s.participant()->wait_end(channel);
  });
}

}  // extern "C"
