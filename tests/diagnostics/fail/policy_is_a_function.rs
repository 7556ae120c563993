use session_refresh::{Policy, session_refresh};

fn sensitive() -> Policy {
    Policy::new()
}

#[session_refresh(policy = sensitive)]
async fn handler() {}

fn main() {}
