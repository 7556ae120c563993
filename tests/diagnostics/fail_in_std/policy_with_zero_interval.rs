use session_refresh::{Policy, session_refresh};

#[session_refresh(policy = Policy::every(time::Duration::ZERO))]
async fn handler() {}

fn main() {}
