"""`python -m showo_turbo`: the commands of `showo-turbo`."""

from showo_turbo.cli.main import run

if __name__ == "__main__":
    run()
