// The sum over positions for each channel: a workgroup takes 64 channels of a sample, four invocations each.

struct Params {
    positions: u32,
    channels: u32,
    x_start: u32,
    x_stride: u32,
    out_start: u32,
    out_stride: u32,
}

@group(0) @binding(1) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read_write> x: array<X>;
@group(0) @binding(3) var<storage, read_write> out: array<Z>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(64, 4)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let blocks = (p.channels + 63u) / 64u;
    let id = group.x + group.y * grid.x;
    let c = id % blocks * 64u + local.x;
    let sample = id / blocks;
    if sample >= call.batch {
        return;
    }
    var sum = 0.0;
    if c < p.channels {
        for (var i = local.y; i < p.positions; i += 4u) {
            sum += f32(x[(sample * p.positions + i) * p.x_stride + p.x_start + c]);
        }
    }
    sums[local.y * 64u + local.x] = sum;
    workgroupBarrier();
    if local.y == 0u && c < p.channels {
        sum += sums[64u + local.x] + sums[128u + local.x] + sums[192u + local.x];
        out[sample * p.out_stride + p.out_start + c] = Z(sum);
    }
}
