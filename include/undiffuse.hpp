// undiffuse for C++17: the C library of undiffuse.h as classes that own, throw and take std::function.
//
// Header only. What a function does, and each field of an options struct, is said in undiffuse.h under the C name; here stands what is
// different. A first program:
//
//     #include <cstdio>
//     #include <undiffuse.hpp>
//
//     int main(int, char **argv) {
//       try {
//         auto model = undiffuse::model::load(argv[1]);
//         undiffuse::sampler_options how;
//         how.kind = UNDIFFUSE_SAMPLER_DDIM;
//         how.steps = 10;
//         undiffuse::session_options options;
//         options.seed = 42;
//         options.progress = [](const undiffuse::progress &p) {
//           std::printf("step %zu of %zu\n", p.step + 1, p.step_count);
//           return true;
//         };
//         undiffuse::session session(model, undiffuse::sampler(model, how), options);
//         session.run();
//         for (float value : session.x().first(4)) std::printf("%.3f\n", value);
//       } catch (const undiffuse::error &e) {
//         std::fprintf(stderr, "%s\n", e.what());
//         return 1;
//       }
//     }
//
// Objects are moved, not copied. A moved-from object can be assigned to and destroyed, nothing else. They may go in any order: each
// keeps what it needs of the others, callbacks included. A std::function is copied into the object that it was given to.
//
// Errors are exceptions of class `error`. An exception of a callback does not pass through the library: it is kept, the library is told
// that the callback failed, and the call that ran the callback throws it, with its own type. The session stands after its last whole
// step. There is no global state.
//
// Threads: const members may be called from several threads at once, others from one at a time. If several sessions use an object with
// callbacks, these must be ready to be called from several threads at once.
//
// It is in parts, which can be included one by one:
//     undiffuse/core.hpp      what every part stands on: errors, views, handles, and how callbacks keep their exceptions
//     undiffuse/host.hpp      what the program brings: cancel flags, its memory, its threads; and what devices there are
//     undiffuse/model.hpp     networks compiled from weights, and denoisers of your own
//     undiffuse/sampler.hpp   reverse processes, with or without a model
//     undiffuse/noise.hpp     the values of a seed, and noise of your own
//     undiffuse/operator.hpp  maps from a sample to a measurement
//     undiffuse/evidence.hpp  measurements, gradients and known bits, which r is made of
//     undiffuse/session.hpp   runs, and all of a run in one call
//     undiffuse/bound.hpp     bounds on the log-likelihood
#ifndef UNDIFFUSE_HPP
#define UNDIFFUSE_HPP

#include "undiffuse/bound.hpp"
#include "undiffuse/core.hpp"
#include "undiffuse/evidence.hpp"
#include "undiffuse/host.hpp"
#include "undiffuse/model.hpp"
#include "undiffuse/noise.hpp"
#include "undiffuse/operator.hpp"
#include "undiffuse/sampler.hpp"
#include "undiffuse/session.hpp"

#endif  // UNDIFFUSE_HPP
