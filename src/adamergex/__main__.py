from adamergex.cli import main

main()
