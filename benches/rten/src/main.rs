//! rten beside ours: see benches/common/peer.rs.

use std::sync::Arc;

use rten::{ModelOptions, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::Tensor;
use rten_tensor::prelude::*;

#[path = "../../common/peer.rs"]
mod peer;
use peer::{Call, Job, Result, Values};

fn load(job: Job) -> Result<Call> {
    let mut options = ModelOptions::with_all_ops();
    // Weights laid out for the kernels cost time and memory at the start, which later calls win back.
    options.prepack_weights(!job.once);
    let model = options.load_file(&job.model)?;
    let mut inputs: Vec<(_, Value)> = Vec::new();
    for input in job.inputs {
        let value = match input.values {
            Values::F32(v) => Tensor::from_data(&input.dims, v).into(),
            // rten computes with integers of 32 bits.
            Values::I64(v) => {
                Tensor::from_data(&input.dims, v.into_iter().map(|v| v as i32).collect::<Vec<_>>()).into()
            }
        };
        inputs.push((model.node_id(&input.name)?, value));
    }
    let output = *model.output_ids().first().ok_or("the network has no output")?;
    let pool = Arc::new(ThreadPool::with_num_threads(job.threads));
    Ok(Box::new(move || {
        let given = inputs.iter().map(|(id, value)| (*id, ValueOrView::from(value))).collect();
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&pool)));
        let [y] = model.run_n(given, [output], Some(options))?;
        let y: Tensor<f32> = y.try_into()?;
        Ok(y.to_vec())
    }))
}

fn main() {
    peer::main("rten", load);
}
