use session_refresh::session_refresh;

#[session_refresh]
fn handler() -> &'static str {
    ""
}

fn main() {}
