namespace Qkvm.Host.Tests;

public class FdStreamTests
{
    [Fact]
    public void A_regular_file_keeps_the_position_of_its_descriptor()
    {
        using var file = new FileStream(Path.GetTempFileName(), FileMode.Open, FileAccess.ReadWrite,
            FileShare.ReadWrite, 0, FileOptions.DeleteOnClose);
        int fd = (int)file.SafeFileHandle.DangerousGetHandle();
        Assert.Equal(6, FdStream.Write(fd, "before"u8));
        int own = FdStream.Reopen(fd, Libc.OWrOnly);
        Assert.Equal(6, FdStream.Write(own, " after"u8));
        Assert.Equal("before after", File.ReadAllText(file.Name));
    }
}
