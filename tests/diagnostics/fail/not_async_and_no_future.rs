use session_refresh::session_refresh;

#[session_refresh]
fn handler() -> String {
    String::new()
}

fn main() {}
