/* Answers of the kernel to a program that opens /dev/video0: loaded before the C library with LD_PRELOAD.

   It is strict where V4L2 is: buffers are asked for, mapped and queued before they are filled, and a device that
   streams takes no other format. What it cannot show is a driver: that is for a machine that has one.

   Source: Documentation/userspace-api/media/v4l of Linux, and its uvcvideo driver for sizes, rates and unplugging.

   FAKE_FORMATS   formats in order, as MJPG,YUYV
   FAKE_FRAMES    frames after which the device is unplugged; 0 is never
   FAKE_ABSENT    times that it is not there to be opened after that
   FAKE_FAULT     busy: another program streams; damaged: every second frame is; silent: no frame comes
   FAKE_JPEG      the file that a frame of MJPG has */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define DEVICE "/dev/video0"
#define BUFFERS 8
#define PAGE 4096

static struct {
    int descriptor; /* a timer: it can be waited for as a device can */
    int is_streaming;
    struct v4l2_pix_format format;
    struct v4l2_fract interval;
    unsigned count, frames, next;
    struct { void *memory; size_t length; int is_queued; unsigned order; } buffers[BUFFERS];
    unsigned queued;
} device = {.descriptor = -1};

static const char *setting(const char *name, const char *usual) {
    const char *value = getenv(name);
    return value && *value ? value : usual;
}

static int has_fault(const char *fault) { return strcmp(setting("FAKE_FAULT", ""), fault) == 0; }

static int fail(int error) {
    errno = error;
    return -1;
}

static unsigned listed(unsigned index) {
    const char *formats = setting("FAKE_FORMATS", "MJPG,YUYV");
    if (strlen(formats) < index * 5 + 4) return 0;
    formats += index * 5;
    return v4l2_fourcc(formats[0], formats[1], formats[2], formats[3]);
}

/* The sizes that it has, as a webcam does: the nearest is given. */
static void adjust(struct v4l2_pix_format *format) {
    static const unsigned sizes[][2] = {{320, 240}, {640, 480}, {1280, 720}};
    unsigned best = 0, known = 0;
    for (unsigned size = 1; size < 3; size++)
        if (abs((int)(sizes[size][0] - format->width)) < abs((int)(sizes[best][0] - format->width))) best = size;
    format->width = sizes[best][0];
    format->height = sizes[best][1];
    for (unsigned index = 0; listed(index); index++) known |= listed(index) == format->pixelformat;
    if (!known) format->pixelformat = listed(0);
    format->field = V4L2_FIELD_NONE;
    format->colorspace = V4L2_COLORSPACE_SRGB;
    switch (format->pixelformat) {
    case V4L2_PIX_FMT_YUYV:
        format->bytesperline = format->width * 2;
        format->sizeimage = format->bytesperline * format->height;
        break;
    case V4L2_PIX_FMT_NV12: /* with padding */
        format->bytesperline = format->width + 64;
        format->sizeimage = format->bytesperline * format->height * 3 / 2;
        break;
    case V4L2_PIX_FMT_GREY:
        format->bytesperline = format->width;
        format->sizeimage = format->bytesperline * format->height;
        break;
    default:
        format->bytesperline = 0;
        format->sizeimage = 1 << 20;
    }
}

/* Frame number n is a colour of its own: luma 16 + 10 n, chroma 128 but for red, which is 128 + 5 n. */
static unsigned fill(unsigned char *memory, unsigned n) {
    unsigned char luma = 16 + n * 10 % 200, red = 128 + n * 5 % 100;
    unsigned line = device.format.bytesperline, height = device.format.height;
    switch (device.format.pixelformat) {
    case V4L2_PIX_FMT_YUYV:
        for (unsigned at = 0; at < device.format.sizeimage; at += 4) {
            memory[at] = memory[at + 2] = luma;
            memory[at + 1] = 128;
            memory[at + 3] = red;
        }
        break;
    case V4L2_PIX_FMT_NV12:
        memset(memory, luma, line * height);
        for (unsigned at = line * height; at < device.format.sizeimage; at += 2) {
            memory[at] = 128;
            memory[at + 1] = red;
        }
        break;
    case V4L2_PIX_FMT_GREY:
        memset(memory, luma, device.format.sizeimage);
        break;
    default: {
        FILE *file = fopen(setting("FAKE_JPEG", ""), "rb");
        size_t length = file ? fread(memory, 1, device.format.sizeimage - 64, file) : 0;
        if (file) fclose(file);
        if (has_fault("damaged") && n % 2) return length / 2;
        memset(memory + length, 0, 64); /* as some cameras pad */
        return length + 64;
    }
    }
    return device.format.sizeimage;
}

static int set_timer(void) {
    struct itimerspec time = {0};
    if (device.is_streaming && !has_fault("silent")) {
        time.it_interval.tv_nsec = 1000000000ull * device.interval.numerator / device.interval.denominator % 1000000000;
        time.it_interval.tv_sec = device.interval.numerator / device.interval.denominator;
        time.it_value = time.it_interval;
    }
    return timerfd_settime(device.descriptor, 0, &time, NULL);
}

static int buffer_of(struct v4l2_buffer *buffer) {
    if (buffer->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || buffer->memory != V4L2_MEMORY_MMAP) return fail(EINVAL);
    return buffer->index < device.count ? 0 : fail(EINVAL);
}

static void describe(struct v4l2_buffer *buffer) {
    buffer->length = device.buffers[buffer->index].length;
    buffer->m.offset = buffer->index * PAGE;
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    if (device.buffers[buffer->index].is_queued) buffer->flags |= V4L2_BUF_FLAG_QUEUED;
}

static int dequeue(struct v4l2_buffer *buffer) {
    unsigned long long ticks;
    unsigned limit = atoi(setting("FAKE_FRAMES", "0")), first = 0, found = 0;
    if (buffer->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || !device.is_streaming) return fail(EINVAL);
    if (read(device.descriptor, &ticks, sizeof ticks) != sizeof ticks) return fail(EAGAIN);
    if (limit && device.frames >= limit) return fail(ENODEV);
    for (unsigned index = 0; index < device.count; index++)
        if (device.buffers[index].is_queued && (!found || device.buffers[index].order < device.buffers[first].order)) {
            first = index;
            found = 1;
        }
    if (!found) return fail(EINVAL);
    buffer->index = first;
    device.buffers[first].is_queued = 0;
    describe(buffer);
    buffer->bytesused = fill(device.buffers[first].memory, device.frames);
    if (has_fault("damaged") && device.frames % 4 == 2) buffer->flags |= V4L2_BUF_FLAG_ERROR;
    buffer->sequence = device.frames++;
    buffer->field = V4L2_FIELD_NONE;
    return 0;
}

static int answer(unsigned long request, void *argument) {
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *capability = argument;
        memset(capability, 0, sizeof *capability);
        strcpy((char *)capability->driver, "uvcvideo");
        strcpy((char *)capability->card, "Stand-in");
        strcpy((char *)capability->bus_info, "usb-0");
        capability->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        capability->capabilities = capability->device_caps | V4L2_CAP_DEVICE_CAPS;
        return 0;
    }
    case VIDIOC_S_INPUT:
        return *(int *)argument ? fail(EINVAL) : 0;
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *format = argument;
        if (format->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || !listed(format->index)) return fail(EINVAL);
        format->pixelformat = listed(format->index);
        return 0;
    }
    case VIDIOC_G_FMT: {
        struct v4l2_format *format = argument;
        if (format->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fail(EINVAL);
        format->fmt.pix = device.format;
        return 0;
    }
    case VIDIOC_S_FMT: {
        struct v4l2_format *format = argument;
        if (format->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fail(EINVAL);
        if (device.count) return fail(EBUSY);
        adjust(&format->fmt.pix);
        device.format = format->fmt.pix;
        return 0;
    }
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_streamparm *parameters = argument;
        struct v4l2_fract *asked = &parameters->parm.capture.timeperframe;
        if (parameters->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fail(EINVAL);
        if (request == VIDIOC_S_PARM && asked->numerator && asked->denominator) device.interval = *asked;
        if (device.interval.denominator / device.interval.numerator > 60) device.interval = (struct v4l2_fract){1, 60};
        parameters->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        *asked = device.interval;
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *asked = argument;
        if (asked->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || asked->memory != V4L2_MEMORY_MMAP) return fail(EINVAL);
        if (device.is_streaming || has_fault("busy")) return fail(EBUSY);
        if (asked->count > BUFFERS) asked->count = BUFFERS;
        device.count = asked->count;
        for (unsigned index = 0; index < BUFFERS; index++) {
            device.buffers[index].is_queued = 0;
            device.buffers[index].length = (device.format.sizeimage + PAGE - 1) / PAGE * PAGE;
        }
        return 0;
    }
    case VIDIOC_QUERYBUF:
        if (buffer_of(argument)) return -1;
        describe(argument);
        return 0;
    case VIDIOC_QBUF: {
        struct v4l2_buffer *buffer = argument;
        if (buffer_of(buffer)) return -1;
        if (device.buffers[buffer->index].is_queued || !device.buffers[buffer->index].memory) return fail(EINVAL);
        device.buffers[buffer->index].is_queued = 1;
        device.buffers[buffer->index].order = device.queued++;
        describe(buffer);
        return 0;
    }
    case VIDIOC_DQBUF:
        return dequeue(argument);
    case VIDIOC_STREAMON:
    case VIDIOC_STREAMOFF:
        if (*(int *)argument != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fail(EINVAL);
        if (request == VIDIOC_STREAMON && !device.count) return fail(EINVAL);
        device.is_streaming = request == VIDIOC_STREAMON;
        if (!device.is_streaming)
            for (unsigned index = 0; index < BUFFERS; index++) device.buffers[index].is_queued = 0;
        return set_timer();
    default:
        return fail(ENOTTY);
    }
}

static int open_device(void) {
    static int absent;
    if (device.descriptor >= 0) return fail(EBUSY);
    if (device.frames && absent++ < atoi(setting("FAKE_ABSENT", "0"))) return fail(ENOENT);
    memset(&device, 0, sizeof device);
    device.interval = (struct v4l2_fract){1, 30};
    device.format.width = 640;
    device.format.pixelformat = listed(0);
    adjust(&device.format);
    return device.descriptor = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int access(const char *path, int mode) { return strcmp(path, DEVICE) ? REAL(access)(path, mode) : 0; }

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return strcmp(path, DEVICE) ? REAL(open)(path, flags, mode) : open_device();
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return strcmp(path, DEVICE) ? REAL(open64)(path, flags, mode) : open_device();
}

int close(int descriptor) {
    if (descriptor >= 0 && descriptor == device.descriptor) device.descriptor = -1;
    return REAL(close)(descriptor);
}

int ioctl(int descriptor, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    /* The kernel takes 32 bits; some programs extend their sign. */
    if (descriptor >= 0 && descriptor == device.descriptor) return answer(request & 0xffffffff, argument);
    return REAL(ioctl)(descriptor, request, argument);
}

static void *map_buffer(size_t length, off_t offset) {
    unsigned index = offset / PAGE;
    if (offset % PAGE || index >= device.count || length != device.buffers[index].length) {
        errno = EINVAL;
        return MAP_FAILED;
    }
    return device.buffers[index].memory =
               REAL(mmap)(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

void *mmap(void *start, size_t length, int protection, int flags, int descriptor, off_t offset) {
    if (descriptor >= 0 && descriptor == device.descriptor) return map_buffer(length, offset);
    return REAL(mmap)(start, length, protection, flags, descriptor, offset);
}

void *mmap64(void *start, size_t length, int protection, int flags, int descriptor, off64_t offset) {
    if (descriptor >= 0 && descriptor == device.descriptor) return map_buffer(length, offset);
    return REAL(mmap64)(start, length, protection, flags, descriptor, offset);
}
