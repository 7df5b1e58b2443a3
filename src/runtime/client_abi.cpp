#include <cstdint>
#include <cstdio>
#include <cstring>
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
static_assert(static_cast<int>(InstructionKind::kOverlapped) == SLACKLINE_OVERLAPPED);

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
  const slackline_place place{stage, stages, 0, 1, 0, 1, nullptr};
  return slackline_join(&place, session);
}

int slackline_join(const slackline_place* place, slackline_session** session) {
  if (session == nullptr) return SLACKLINE_EINVAL;
  *session = new slackline_session;
  if (place == nullptr) return refuse(*session, SLACKLINE_EINVAL, "no place in the job is given");
  slackline::JobHello hello{};
  struct Number {
    const char* name;
    int value;
    int count;
    std::int32_t& target;
    std::int32_t& target_count;
  };
  for (const Number& number :
       {Number{"rank", place->rank, place->ranks, hello.rank, hello.ranks},
        Number{"pipeline", place->pipeline, place->pipelines, hello.pipeline, hello.pipelines},
        Number{"lane", place->lane, place->lanes, hello.lane, hello.lanes}}) {
    if (number.value < 0 || number.value >= number.count) {
      return refuse(*session, SLACKLINE_EINVAL,
                    std::string(number.name) + " " + std::to_string(number.value) + " of " +
                        std::to_string(number.count) + " does not exist");
    }
    number.target = number.value;
    number.target_count = number.count;
  }
  if (place->gpu != nullptr) {
    const std::size_t length = std::strlen(place->gpu);
    if (length >= hello.gpu.size()) return refuse(*session, SLACKLINE_EINVAL, "the GPU's UUID is too long");
    std::memcpy(hello.gpu.data(), place->gpu, length);
  }
  return guarded(*session, [&](slackline::Session& s) { s.open(hello); });
}

void slackline_close(slackline_session* session) {
  delete session;
}

int slackline_step_begin(slackline_session* session) {
  return guarded(session, [](slackline::Session& s) { s.step_begin(); });
}

int slackline_step_begin_with(slackline_session* session, int plan) {
  if (plan < -1) return SLACKLINE_EINVAL;
  return guarded(session, [&](slackline::Session& s) { s.step_begin(plan); });
}

int slackline_step_end(slackline_session* session) {
  return guarded(session, [](slackline::Session& s) { s.step_end(); });
}

int slackline_instruction_begin(slackline_session* session, int kind, int microbatch) {
  return slackline_instruction_begin_on(session, kind, -1, microbatch);
}

int slackline_instruction_begin_on(slackline_session* session, int kind, int stage, int microbatch) {
  if (kind < SLACKLINE_FORWARD || kind > SLACKLINE_OVERLAPPED) return SLACKLINE_EINVAL;
  return guarded(session, [&](slackline::Session& s) {
    s.instruction_begin(static_cast<InstructionKind>(kind), stage, microbatch);
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

int slackline_plan(const slackline_session* session) {
  return session == nullptr ? -1 : session->session.plan();
}

int slackline_order_length(const slackline_session* session) {
  return session == nullptr ? 0 : static_cast<int>(session->session.order().size());
}

int slackline_order_entry(const slackline_session* session, int index, int* kind, int* stage,
                          int* microbatch) {
  if (session == nullptr || index < 0 || index >= slackline_order_length(session)) return SLACKLINE_EINVAL;
  const slackline::OrderEntry& entry = session->session.order()[static_cast<std::size_t>(index)];
  if (kind != nullptr) *kind = entry.kind;
  if (stage != nullptr) *stage = entry.stage;
  if (microbatch != nullptr) *microbatch = entry.microbatch;
  return SLACKLINE_OK;
}

int slackline_best_plan(slackline_session* session) {
  if (session == nullptr || session->session.order().empty()) return -1;
  const slackline::PlanAgreement* const agreement = session->session.agreement();
  return agreement == nullptr ? 0 : agreement->best();
}

int slackline_agrees(slackline_session* session) {
  return session != nullptr && session->session.agreement() != nullptr ? 1 : 0;
}

int slackline_set_straggler(slackline_session* session, int pipeline, double slowdown) {
  if (session == nullptr) return SLACKLINE_EINVAL;
  slackline::PlanAgreement* const agreement = session->session.agreement();
  if (agreement == nullptr || agreement->set_slowdown(pipeline, slowdown)) return SLACKLINE_OK;
  return refuse(session, SLACKLINE_EINVAL,
                "pipeline " + std::to_string(pipeline) + " cannot take " + std::to_string(slowdown) +
                    " times as long: there is no such pipeline, or it is not from 1 to 1000");
}

double slackline_straggler(slackline_session* session, int pipeline) {
  const slackline::PlanAgreement* const agreement =
      session == nullptr ? nullptr : session->session.agreement();
  return agreement == nullptr ? 1 : agreement->slowdown(pipeline);
}

unsigned slackline_notices(slackline_session* session) {
  const slackline::PlanAgreement* const agreement =
      session == nullptr ? nullptr : session->session.agreement();
  return agreement == nullptr ? 0 : agreement->notices();
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
