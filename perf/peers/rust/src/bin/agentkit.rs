//! Peer "agentkit": the newest agentkit task manager; see ../agentkit.rs.

use new_core as core_crate;
use new_shell as shell_crate;
use new_task_manager as task_manager;
use new_tools as tools;

/// The context of a call; its fields differ between the versions.
macro_rules! owned_context {
    ($($field:ident : $value:expr),* $(,)?) => {
        tools::OwnedToolContext {
            $($field: $value,)* execution_scope: None, approved_request: None
        }
    };
}

#[path = "../agentkit.rs"]
mod agentkit;

fn main() {
    agentkit::run("agentkit", "0.10");
}
