def pytest_addoption(parser):
    parser.addoption(
        "--engine",
        choices=["amaranth", "verilator", "icarus", "ecp5", "ice40"],
        help="run all component tests on this engine alone (tests/hw)",
    )
