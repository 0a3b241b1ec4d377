//! `--method auto`: the method that suits model, operator, noise and budget.

use undiffuse::posterior::MethodKind;
use undiffuse::{Error, ErrorKind, Result};

use super::method::MethodArgs;
use super::suited::{self, Setting};

/// Network calls of a sample that may be spent unless `--calls` says otherwise, a product counted as two.
const CALLS: usize = 1000;
/// Groups are weighed against one another where a sample has at most so many values: of more they lose themselves to
/// one sample, or the ladder gets long.
const FEW_VALUES: usize = 64;

/// What was chosen and why.
pub struct Choice {
    /// The method.
    pub method: MethodKind,
    /// A clause that says why.
    pub reason: String,
}

/// In the order in which they are wanted: what is right for a prior of any shape, for a Gaussian one, and what is
/// cheap.
fn wanted(values: usize, sigma: f64) -> Vec<MethodKind> {
    if sigma == 0.0 {
        return vec![MethodKind::Ddnm, MethodKind::Ddrm, MethodKind::DiffPir, MethodKind::Pigdm];
    }
    let few = values <= FEW_VALUES;
    let first = if few {
        vec![MethodKind::SplitGibbs, MethodKind::Calibrated]
    } else {
        vec![MethodKind::Calibrated, MethodKind::SplitGibbs]
    };
    [first, vec![MethodKind::DiffPir, MethodKind::Ddrm, MethodKind::Pigdm]].concat()
}

/// Chooses. `gradient`: whether the network's vector-Jacobian products are at hand.
///
/// Errors: kind `Unsupported` where nothing goes with the model within the budget.
pub fn choose(setting: &Setting<'_>, gradient: bool) -> Result<Choice> {
    let (values, budget) = (setting.dims.elements(), setting.job.method.calls.unwrap_or(CALLS));
    let mut dearer: Vec<String> = Vec::new();
    let wanted = match setting.job.operator.is_linear() {
        true => wanted(values, setting.sigma),
        false => vec![MethodKind::Daps, MethodKind::Dps],
    };
    for method in wanted {
        if (method.needs_vjp() && !gradient) || !suited::goes(setting, method) {
            continue;
        }
        let Some(cost) = cost(setting, method) else { continue };
        if cost > budget {
            dearer.push(format!("{} {cost}", method.name()));
            continue;
        }
        let mut reason = match method {
            MethodKind::SplitGibbs => format!("right for a prior of any shape, of {values} values"),
            MethodKind::Calibrated => format!("the nearest for {values} values"),
            MethodKind::Daps | MethodKind::Dps => "for operators that are not linear".to_string(),
            MethodKind::Ddnm => "for measurements without noise".to_string(),
            _ => "without products".to_string(),
        };
        reason.push_str(&format!("; {cost} of {budget} calls"));
        if !dearer.is_empty() {
            reason.push_str(&format!(", and --calls would have to be more for {}", dearer.join(", ")));
        }
        return Ok(Choice { method, reason });
    }
    let text = match dearer.as_slice() {
        [] => "no method goes with this model and operator; name one by --method and it says what is wrong".to_string(),
        some => format!("--calls is {budget}, too few: {}", some.join(", ")),
    };
    Err(Error::new(ErrorKind::Unsupported, format!("--method auto: {text}")))
}

/// Network calls of a sample, a product counted as two.
fn cost(setting: &Setting<'_>, method: MethodKind) -> Option<usize> {
    let Setting { job, scheduler, operator, rows, each, sigma, .. } = setting;
    let args = MethodArgs::of(method);
    let prepared = args.prepare(operator, args.zeta(&job.operator), rows, *each, *sigma).ok()?;
    let sampler = job.sampling.build(scheduler, &args, &job.operator, &prepared.evidence).ok()?;
    sampler.levels().len().checked_mul(1 + 2 * args.products())
}
