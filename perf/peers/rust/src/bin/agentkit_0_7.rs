//! Peer "agentkit-0.7": agentkit's task manager 0.7.0, the reference; see ../agentkit.rs.

use old_core as core_crate;
use old_shell as shell_crate;
use old_task_manager as task_manager;
use old_tools as tools;

/// The context of a call; its fields differ between the versions.
macro_rules! owned_context {
    ($($field:ident : $value:expr),* $(,)?) => {
        tools::OwnedToolContext { $($field: $value),* }
    };
}

#[path = "../agentkit.rs"]
mod agentkit;

fn main() {
    agentkit::run("agentkit-0.7", "0.7");
}
