"""`python -m pave_ros.cli`"""

from pave_ros.cli import main

if __name__ == "__main__":
    main()
