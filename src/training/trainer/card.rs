//! The card of a weight file: what it is and how it came about. Its author adds the data's licence and the measured
//! quality.

use alloc::format;
use alloc::string::String;

use super::{Objective, Trainer};

impl Trainer {
    /// The beginning of a card, Markdown; `file` is the name of the weight file. Lines that end in "..." are to be
    /// filled in.
    pub fn card(&self, file: &str) -> String {
        let Self { config: c, model, scheduler, scale, .. } = self;
        let betas = match self.objective {
            Objective::Fixed(_) => "",
            Objective::Learned(_) => ", the betas but the first learned",
        };
        let average = c.ema.map_or(String::new(), |d| format!(", the average of weights with decay {d}"));
        format!(
            "# {file}\n\n\
             | | |\n|---|---|\n\
             | Network | {}, {} parameters, stored as {} |\n\
             | Process | {}, {} steps{betas} |\n\
             | Data | {:?}; scale {}, shift {} |\n\
             | Licence of the data | ... |\n\
             | Seed | {} |\n\
             | Training | {} steps of batch {}{average}; {:.0} s |\n\
             | K | ... |\n\n\
             `undiffuse train` with this configuration:\n\n```json\n{}\n```\n",
            model.class_name(),
            self.params.len(),
            c.dtype,
            scheduler.class.class_name(),
            scheduler.num_train_timesteps,
            c.data.kind,
            scale.scl,
            scale.shft,
            c.seed,
            self.step,
            c.batch,
            self.seconds,
            c.text.trim_end(),
        )
    }
}
