"""An emulated Partner Center REST API: customers, subscriptions, and the rules under which seats may change."""
