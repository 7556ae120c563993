use session_refresh::session_refresh;

unsafe extern "C" {
    #[session_refresh]
    fn handler();
}

fn main() {}
