//! Samplers as parts of a program: see [`emit`](crate::emit).

use alloc::format;
use alloc::string::String;

use super::{
    Ancestral2015, BitPrediction, Bits2015, Call, CallNoise, Mix, Of, Plan, Prediction, PredictionType, Readout2015,
    SampleClip, Term, Update, ancestral2015, bits2015,
};
use crate::emit::{Emit, Emitter, emits, emits_shown};
use crate::error::Result;
use crate::process::{Binomial, Linear};
use crate::schedule::Level;

emits_shown! {
    PredictionType => "PredictionType::",
    BitPrediction => "BitPrediction::",
    SampleClip => "SampleClip::",
    CallNoise => "CallNoise::",
    Of => "Of::",
}

emits! {
    Binomial { pi }
    Level { timestep, alpha, sigma }
    Linear { x0_x, x0_output, eps_x, eps_output }
    Prediction { kind, clip, rederive_eps }
    Term { of, by }
}

impl Emit for Readout2015 {
    fn emit(&self, to: &mut Emitter) -> Result<String> {
        Ok(match self {
            Self::Prediction(kind) => format!("Readout2015::Prediction({})", kind.emit(to)?),
            plain => format!("Readout2015::{plain:?}"),
        })
    }
}

impl Emit for Mix {
    fn emit(&self, to: &mut Emitter) -> Result<String> {
        Ok(format!("Mix({})", self.0.emit(to)?))
    }
}

impl Emit for Update {
    fn emit(&self, to: &mut Emitter) -> Result<String> {
        let keep = to.list("Mix", &self.keep)?;
        Ok(format!("Update {{ mean: {}, keep: {keep} }}", self.mean.emit(to)?))
    }
}

impl Emit for Call {
    fn emit(&self, to: &mut Emitter) -> Result<String> {
        let Self { level, target, factors, input_scale, linear, updates, noise, settles, evaluates } = self;
        let updates = to.list("Update", updates)?;
        Ok(format!(
            "Call {{ level: {}, target: {}, factors: {}, input_scale: {}, linear: {}, updates: {updates}, noise: {}, settles: {settles}, \
             evaluates: {evaluates} }}",
            level.emit(to)?,
            target.emit(to)?,
            factors.emit(to)?,
            input_scale.emit(to)?,
            linear.emit(to)?,
            noise.emit(to)?,
        ))
    }
}

impl Emit for Plan {
    fn emit(&self, to: &mut Emitter) -> Result<String> {
        let Self { name, prediction, history, initial_scale, calls, levels, predicts_mean, fingerprint } = self;
        let calls = to.list("Call", calls)?;
        Ok(format!(
            "Plan {{ name: {name:?}, prediction: {}, history: {history}, initial_scale: {}, calls: {calls}, levels: {}, \
             predicts_mean: {predicts_mean}, fingerprint: {fingerprint} }}",
            prediction.emit(to)?,
            initial_scale.emit(to)?,
            levels.emit(to)?,
        ))
    }
}

impl Emit for ancestral2015::Step {
    fn emit(&self, to: &mut Emitter) -> Result<String> {
        let Self { alpha, sigma, beta, of_x0, of_x, draws, std } = self;
        let [alpha, sigma, beta] = [alpha.emit(to)?, sigma.emit(to)?, beta.emit(to)?];
        let [of_x0, of_x, std] = [of_x0.emit(to)?, of_x.emit(to)?, std.emit(to)?];
        Ok(format!(
            "AncestralStep {{ alpha: {alpha}, sigma: {sigma}, beta: {beta}, of_x0: {of_x0}, of_x: {of_x}, draws: {draws}, \
             std: {std} }}"
        ))
    }
}

impl Emit for bits2015::Step {
    fn emit(&self, to: &mut Emitter) -> Result<String> {
        Ok(format!("BitsStep {{ beta: {}, previous: {} }}", self.beta.emit(to)?, self.previous.emit(to)?))
    }
}

emits! {
    Ancestral2015 { readout, levels, steps, end, root_steps, fingerprint }
    Bits2015 { process, prediction, logits, levels, steps, end, fingerprint }
}
