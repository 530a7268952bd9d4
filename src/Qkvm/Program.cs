Console.WriteLine("qkvm");
