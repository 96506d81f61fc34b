from adamergex.cli.main import main

main()
