// What conv.wgsl and conv_reduce.wgsl share: the parameters and the epilogue.
//
// Rows are output positions of all samples, columns are output channels in quads (vec4). Every start and stride of this struct
// counts quads.

struct Params {
    positions: u32,      // output positions of a sample
    width: u32,          // output columns
    in_height: i32,      // the input as the window sees it, after upsampling or spreading
    in_width: i32,
    source_positions: u32, // positions of a source in memory
    source_width: u32,
    stride: i32,
    pad_top: i32,        // may be negative
    pad_left: i32,
    kernel_width: u32,
    x0_channels: u32,    // in single channels
    x0_start: u32,
    x0_stride: u32,
    x1_channels: u32,
    x1_start: u32,
    x1_stride: u32,
    ab_start: u32,
    ab_stride: u32,      // from sample to sample
    channels: u32,       // quads of all sources together: where b begins after a
    columns: u32,        // quads of output channels
    steps: u32,          // blocks of 16 rows of the weights
    splits: u32,
    split_steps: u32,
    channel_start: u32,
    channel_stride: u32, // from sample to sample
    residual_start: u32,
    residual_stride: u32,
    out_start: u32,
    out_stride: u32,
    before_slope: f32,
    after_slope: f32,
    scale: f32,
}

@group(0) @binding(1) var<uniform> p: Params;
@group(0) @binding(5) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> channel: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> residual: array<R4>;
@group(0) @binding(9) var<storage, read_write> out: array<Y4>;

override BIAS: bool = false;
override CHANNEL: bool = false;
override RESIDUAL: bool = false;
override AFTER: u32 = 0;

// activation((sum + bias + channel + residual) * scale), stored.
fn finish(row: u32, column: u32, sum: vec4<f32>) {
    var v = sum;
    if BIAS {
        v += bias[column];
    }
    if CHANNEL {
        v += channel[row / p.positions * p.channel_stride + p.channel_start + column];
    }
    if RESIDUAL {
        v += vec4<f32>(residual[row * p.residual_stride + p.residual_start + column]);
    }
    out[row * p.out_stride + p.out_start + column] = Y4(activate(AFTER, p.after_slope, v * p.scale));
}
