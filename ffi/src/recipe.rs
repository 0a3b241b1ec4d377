//! What sessions make their evidence from.

use alloc::boxed::Box;
use core::mem::MaybeUninit;

use undiffuse::posterior::{Evidence, RSchedule};

use crate::enums::undiffuse_r_schedule::{self, *};
use crate::options::value;
use crate::status::{Failure, Outcome};

/// One session's use of evidence.
pub(crate) type BoxedEvidence = Box<dyn Evidence + Send + Sync>;

/// What sessions make their evidence from.
pub(crate) trait Recipe: Send + Sync {
    fn make(&self) -> Outcome<BoxedEvidence>;
}

impl<E: Evidence + Clone + Send + Sync + 'static> Recipe for E {
    fn make(&self) -> Outcome<BoxedEvidence> {
        Ok(Box::new(self.clone()))
    }
}

/// The schedule of r of evidence about numbers.
pub(crate) fn r_schedule(raw: MaybeUninit<undiffuse_r_schedule>) -> Outcome<RSchedule> {
    match value(raw)? {
        UNDIFFUSE_R_CONSTANT => Ok(RSchedule::Constant),
        UNDIFFUSE_R_RAMP => Ok(RSchedule::Ramp),
        UNDIFFUSE_R_WHITE => Err(Failure::argument("UNDIFFUSE_R_WHITE is for evidence about bits")),
    }
}
