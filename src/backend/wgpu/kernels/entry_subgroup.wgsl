// The entry point of kernels that add up over a workgroup, with subgroup operations.

var<private> me: u32;
var<private> lane: u32;
var<private> subgroup: u32;
var<private> subgroups: u32;
// Subgroups have at least 4 invocations.
var<workgroup> sums: array<vec4<f32>, 64>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
    @builtin(subgroup_id) subgroup_number: u32,
    @builtin(num_subgroups) subgroup_count: u32,
) {
    me = local.x;
    lane = subgroup_lane;
    subgroup = subgroup_number;
    subgroups = subgroup_count;
    body(group.x + group.y * grid.x);
}

// The sum over all invocations of the workgroup, for all of them.
fn total(v: vec4<f32>) -> vec4<f32> {
    let part = subgroupAdd(v);
    if lane == 0u {
        sums[subgroup] = part;
    }
    workgroupBarrier();
    var all = vec4<f32>(0.0);
    for (var i = 0u; i < subgroups; i++) {
        all += sums[i];
    }
    workgroupBarrier();
    return all;
}
