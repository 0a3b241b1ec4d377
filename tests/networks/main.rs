//! Networks from their files to their outputs, on every backend; and input that is refused.

#[path = "../common/draw.rs"]
mod draw;
#[path = "../common/golden.rs"]
mod golden;
#[path = "../common/hold.rs"]
mod hold;
#[path = "../common/op_suite.rs"]
mod op_suite;
#[path = "../common/pcg.rs"]
mod pcg;
#[path = "../common/scratch.rs"]
mod scratch;
#[path = "../common/seeded.rs"]
mod seeded;
#[path = "../common/seeded_file.rs"]
mod seeded_file;

mod backends;
mod bad_input;
mod families;
mod finite;
mod graph_data;
mod halves;
#[cfg(feature = "import")]
mod import_onnx;
mod integers;
mod latent;
mod latent_encoder;
mod models_2015;
mod narrow_weights;
mod pipeline;
mod pretrained_2015;
mod programs;
mod recompute;
mod same_bits;
#[cfg(all(feature = "import", feature = "training"))]
mod seeds;
mod unet_gradient;
mod weights;
