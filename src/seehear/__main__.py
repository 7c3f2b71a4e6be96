from seehear.cli import main

main()
